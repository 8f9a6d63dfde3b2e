"""Emotion understanding: scenarios, judges, and their evaluation with and without gestures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        'arms': ['ARMS', 'Design', 'choose_prior', 'judged', 'plan_questions', 'previews']
        + ['shipped_templates'],
        'ask': ['ask_all'],
        'baselines': ['bag_baseline'],
        'build': ['build_scenarios', 'load_template', 'template_names'],
        'cache': ['Cache'],
        'evaluation': ['Evaluation', 'evaluate'],
        'identity': ['probe_subjects'],
        'judges': ['make_judge'],
        'judges.lexicon': ['fit_prior'],
        'parse': ['parse_reply'],
        'redact': ['Redactor', 'opaque_id', 'read_names'],
        'report': ['print_tables', 'write_results'],
        'scenarios': ['Gesture', 'Scenario', 'load_scenarios', 'save_scenarios'],
        'scores': ['score_evidence'],
        'sessions': ['recording_sessions', 'sessions_from_clips', 'with_transcripts'],
        'sources': ['load_sessions', 'with_outcomes'],
        'synthetic': ['synthetic_scenarios'],
        'tasks': ['render'],
        'transcripts': ['read_transcripts'],
    },
)
