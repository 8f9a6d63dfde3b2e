"""Emotion understanding: scenarios, judges, and their evaluation with and without gestures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        'arms': ['ARMS', 'Design', 'choose_prior', 'judged', 'plan_questions', 'previews'],
        'ask': ['ask_all'],
        'build': ['build_scenarios', 'load_template', 'shipped_templates', 'synthetic_scenarios']
        + ['template_names'],
        'cache': ['Cache'],
        'evaluation': ['Evaluation', 'evaluate'],
        'figures': ['bag_baseline'],
        'identity': ['probe_subjects'],
        'judges': ['make_judge'],
        'judges.lexicon': ['fit_prior'],
        'parse': ['parse_reply'],
        'redact': ['Redactor', 'opaque_id', 'read_names'],
        'report': ['print_tables', 'write_results'],
        'scenarios': ['Gesture', 'Scenario', 'load_scenarios', 'save_scenarios'],
        'scores': ['score_evidence'],
        'sessions': ['load_sessions', 'recording_sessions', 'sessions_from_clips']
        + ['with_outcomes', 'with_transcripts'],
        'tasks': ['render'],
        'transcripts': ['read_transcripts'],
    },
)
