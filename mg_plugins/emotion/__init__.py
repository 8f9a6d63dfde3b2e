"""Emotion understanding: scenarios, judges, and their evaluation with and without gestures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        'arms': ['ARMS', 'Design', 'plan_questions'],
        'ask': ['Budget', 'ask_all'],
        'baselines': ['bag_baseline'],
        'build': ['build_scenarios', 'load_sessions'],
        'cache': ['Cache'],
        'evaluation': ['Evaluation', 'assess', 'evaluate'],
        'evidence': ['score_evidence'],
        'identity': ['probe_subjects'],
        'judges': ['make_judge'],
        'parse': ['parse_reply'],
        'report': ['write_results'],
        'redact': ['Redactor'],
        'scenarios': ['Gesture', 'Scenario', 'load_scenarios', 'save_scenarios'],
        'synthetic': ['synthetic_scenarios'],
        'template': ['load_template'],
        'transcripts': ['read_transcripts'],
    },
)
