"""What an augmentation is: a strength, a probability, a draw, and a function that is applied."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mg_plugins.data.layouts import Layout
from mg_plugins.errors import UserError

AUGMENTATIONS: 'dict[str, type[Augmentation]]' = {}


class Draws:
    """Random numbers for a clip, or N ``clips``, by ``rng``; ``noise(shape)`` makes large ones."""

    def __init__(
        self, rng: np.random.Generator, clips: int | None = None, noise: Callable | None = None
    ) -> None:
        self.rng, self._noise = rng, noise
        self.batch = () if clips is None else (clips,)

    def of(self, hit: np.ndarray) -> 'tuple[np.ndarray | None, Draws]':
        """Index (n,) of the clips of a batch that are hit, and the source for them."""
        if not self.batch:
            return None, self
        index = np.flatnonzero(hit)
        return index, Draws(self.rng, len(index), self._noise)

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        """(*batch, *shape) float32, uniform in [low, high)."""
        values = self.rng.random((*self.batch, *shape), dtype=np.float32)
        return np.asarray(low + (high - low) * values, dtype=np.float32)

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        """(*batch, *shape) int64, uniform in low … high, both included."""
        return np.asarray(self.rng.integers(low, high, (*self.batch, *shape), endpoint=True))

    def noise(self, shape: tuple[int, ...]):
        """(*batch, *shape) float32, standard normal, for something as large as the clips."""
        shape = (*self.batch, *shape)
        if self._noise is not None:
            return self._noise(shape)
        return self.rng.standard_normal(shape, dtype=np.float32)


def option(default: Any, about: str, most: float = float('inf'), least: float = 0) -> Any:
    """An option of an augmentation: default, meaning, the values that make sense."""
    return dataclasses.field(default=default, metadata=dict(about=about, most=most, least=least))


@dataclass(frozen=True)
class Augmentation:
    """One augmentation of a share ``p`` of the clips; shapes are those of `mg_plugins.data.arrays`.

    Subclasses have an `option` ``strength``, which is not applied at 0, a `draw` and an `apply`.
    """

    p: float = dataclasses.field(default=1.0, kw_only=True)
    name: ClassVar[str] = ''  # its type in configs
    needs_layout: ClassVar[bool] = False  # whether it knows left from right, bones or body parts

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            most = 1 if field.name == 'p' else field.metadata.get('most', float('inf'))
            least = field.metadata.get('least', 0)
            if isinstance(value, (int, float)) and not least <= value <= most:
                above = f'be at least {least}' if least else 'not be negative'
                bound = above if value < least else f'be at most {most:g}'
                raise UserError(f'{self.name}: {field.name} must {bound}, got {value!r}')

    def check(self, layout: Layout) -> None:
        """Raise LayoutError if this layout lacks what the augmentation needs."""

    def draw(self, draws: Draws, shape: tuple[int, int, int, int], layout: Layout | None) -> dict:
        """Draw the parameters of `apply` for clips of shape (M, T, V, C)."""
        return {}

    def apply(self, keypoint, score, params: Mapping[str, Any], layout: Layout | None):
        """Augment one clip or a batch with drawn parameters; returns keypoint and score."""
        raise NotImplementedError


def register(name: str) -> Callable[[type[Augmentation]], type[Augmentation]]:
    """Class decorator: a dataclass, entered into the table under its name in configs."""

    def enter(cls: type[Augmentation]) -> type[Augmentation]:
        AUGMENTATIONS[name] = cls = dataclass(frozen=True)(cls)
        about = {f.name: f.metadata.get('about') for f in dataclasses.fields(cls)}
        options = ''.join(f'        {key}: {text}.\n' for key, text in about.items() if text)
        cls.name, cls.__doc__ = name, f'{cls.__doc__.rstrip()}\n\n    Args:\n{options}    '
        return cls

    return enter


def build_augmentation(entry: Mapping[str, Any] | str | Augmentation) -> Augmentation:
    """An augmentation from ``dict(type='MGShear', strength=0.5)``, its name, or itself."""
    if isinstance(entry, Augmentation):
        return entry
    options = dict(type=entry) if isinstance(entry, str) else dict(entry)
    name = options.pop('type', None)
    if name not in AUGMENTATIONS:
        raise UserError(
            f'augmentation {name!r} is unknown; there are {", ".join(sorted(AUGMENTATIONS))}'
        )
    known = [field.name for field in dataclasses.fields(AUGMENTATIONS[name])]
    if unknown := sorted(set(options) - set(known)):
        raise UserError(f'{name} has no option {unknown[0]!r}; its options are {known}')
    return AUGMENTATIONS[name](**options)
