"""Show what the augmentations do: a contact sheet (PNG) of all, an animation (GIF) of each.

python tools/show_augmentations.py --ann-file data/imigue/imigue.pkl --clip 0001_12 --only MGJitter
"""

import sys
from pathlib import Path

import options


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = options.parser(__doc__)
    add = parser.add_argument
    add('--ann-file', help='annotation file (default: the synthetic set)')
    add('--clip', help='name of the clip (default: one with a lot of movement)')
    add('--layout', help='joint layout, where the file does not name one')
    add('--only', nargs='+', metavar='NAME', help='augmentations or recipes (default: all)')
    add('--strength', type=float, help='instead of each default strength')
    add('--seed', type=int, default=0, help='seed of the draws (default: 0)')
    add('--out', type=Path, default='work_dirs/augmentations', help='folder (default: %(default)s)')
    add('--no-gif', action='store_true', help='draw the contact sheet only')
    add('--quiet', action='store_true', help='no progress bar')
    args = parser.parse_args(argv)
    from tqdm import tqdm

    try:
        import matplotlib  # noqa: F401  (it needs Pillow itself)
    except ImportError as error:
        sys.exit(f'{error}. Install it: pip install -e ".[viz]"')

    from mg_plugins.augment.pictures import animate, contact_sheet, load_clip, names_of

    out, names = args.out, names_of(args.only)
    clip, sheet = load_clip(args.ann_file, args.clip, args.layout), out / 'augmentations.png'
    drawn = args.strength, args.seed
    bar = dict(unit='picture', disable=args.quiet or None, leave=False)
    contact_sheet(clip, tqdm(names, **bar), sheet, *drawn)
    for name in tqdm([] if args.no_gif else names, **bar):
        animate(clip, name, out / f'{name}.gif', *drawn)
    print(f'clip: {clip.title}\ncontact sheet: {sheet}')
    if not args.no_gif:
        print(f'animations: {len(names)} files {out}/NAME.gif')


if __name__ == '__main__':
    options.run(main, 'What is in the folder is whole.')
