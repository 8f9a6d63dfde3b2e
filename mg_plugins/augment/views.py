"""What a view is: a chain of augmentations and the features that a model sees of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mg_plugins.data.layouts import Layout, get_layout
from mg_plugins.data.skeleton import FEATURES
from mg_plugins.errors import UserError

from .chain import Chain


@dataclass(frozen=True)
class View:
    """One view: its chain and its features."""

    chain: Chain
    feat: tuple[str, ...]

    @property
    def channels(self) -> int:
        """Number of channels a joint."""
        return 3 * len(self.feat)


def build_views(
    layout: str | dict | Layout, views: Sequence[Mapping]
) -> tuple[Layout, tuple[View, ...]]:
    """The layout and the views of ``[dict(chain='weak', feat='joint'), …]``.

    Raises:
        ValueError: No view, unknown keys, names or options, or views whose numbers of features
            differ, which cannot become one tensor.
        LayoutError: A layout that an augmentation cannot work with.
    """
    layout = get_layout(layout)
    built = []
    for number, view in enumerate(views):
        unknown = sorted(set(view) - {'chain', 'feat'})
        if unknown:
            raise UserError(f"view {number} has the key {unknown[0]!r}; keys are 'chain', 'feat'")
        feat = view.get('feat', 'joint')
        feat = (feat,) if isinstance(feat, str) else tuple(feat)
        wrong = [name for name in feat if name not in FEATURES]
        if wrong or not feat:
            raise UserError(
                f'view {number} has feat={feat!r}, expected one or several of {list(FEATURES)}'
            )
        built.append(View(Chain(view.get('chain', ()), layout), feat))
    if not built:
        raise UserError("views is empty; give at least one, such as dict(chain='weak')")
    numbers = [len(view.feat) for view in built]
    if len(set(numbers)) > 1:
        raise UserError(
            f'the views have {numbers} features; they become one tensor and need equally many'
        )
    return layout, tuple(built)
