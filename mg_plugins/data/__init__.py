"""Annotation files, joint layouts, class names and the synthetic set."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        'annotations': [
            'AnnotationError',
            'check_annotations',
            'load_annotations',
            'save_annotations',
            'summarise',
        ],
        'classes': ['class_counts', 'class_groups', 'dataset_names', 'get_classes', 'protocol'],
        'hands': ['attach_hands'],
        'labelled': ['draw_labelled'],
        'layouts': [
            'Layout',
            'LayoutError',
            'get_layout',
            'layout_aliases',
            'layout_names',
            'register_layout',
        ],
        'relayout': ['joint_parts', 'relayout', 'usual_coordinates'],
        'skeleton': ['body_size', 'detected_joints', 'features', 'normalise'],
        'statistics': ['Bootstrap', 'bootstrap_difference'],
        'synthetic': ['SyntheticOptions', 'ensure_synthetic', 'make_synthetic'],
    },
)
