"""Everything that trains many times: plans of runs, one runner, one report."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        'augmentation': ['Study', 'StudyOptions'],
        'plan': ['Cell', 'Entry', 'Run', 'plan_runs', 'read_cells'],
        'pretraining': ['Measures', 'pretrain_and_probe'],
        'probing': ['load_model', 'probe_checkpoint', 'run_probes', 'with_data'],
        'report': ['Style', 'collect', 'write_report'],
        'runner': ['Plan', 'execute'],
        'training': ['finetune', 'train_and_test'],
    },
)
