"""Annotation files, joint layouts, class names and the synthetic set."""

import lazy_loader

_NAMES = {
    'annotations': 'AnnotationError check_annotations load_annotations save_annotations summarise',
    'classes': 'class_counts class_groups dataset_names draw_labelled get_classes protocol',
    'layouts': 'Layout LayoutError get_layout joint_parts layout_aliases layout_names '
    'register_layout relayout usual_coordinates',
    'readers.windows': 'attach_hands',
    'skeleton': 'body_size detected_joints features normalise',
    'statistics': 'Bootstrap bootstrap_difference',
    'synthetic': 'ensure_synthetic make_synthetic',
    'synthetic_plan': 'SyntheticOptions',
}
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={module: names.split() for module, names in _NAMES.items()}
)
