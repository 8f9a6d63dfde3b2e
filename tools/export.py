"""Write a trained recognizer as ONNX, with layout, normalisation, clip length and classes in its
metadata; compare it with PyTorch and print the latency of both.

example: python tools/export.py CONFIG CHECKPOINT --out model.onnx
"""

import logging
import warnings
from pathlib import Path

import options


def main() -> None:
    """Run the command."""
    parser = options.parser(__doc__)
    add = parser.add_argument
    add('config', help='config file of the model')
    add('checkpoint', type=Path, help='checkpoint file')
    add('--out', type=Path, required=True, metavar='FILE.onnx')
    add('--opset', type=int, default=18, help='at least 18 (default)')
    add('--classes', type=Path, metavar='FILE', help='class names, one a line in label order')
    args = parser.parse_args()
    if args.opset < 18:
        parser.error(f'--opset must be at least 18, got {args.opset}')
    from mg_plugins.errors import UserError, counted

    options.need_openmmlab()
    from mg_plugins.openmmlab import export, launch

    # PyTorch's exporter warns of itself, and of torchvision's operators, which no model here has.
    warnings.filterwarnings('ignore', r'`isinstance\(treespec, LeafSpec\)`', FutureWarning)
    logging.getLogger('torch.onnx._internal.exporter._registration').setLevel(logging.ERROR)

    for path in filter(None, (args.checkpoint, args.classes)):
        if not path.is_file():
            raise UserError(f'{path} is not there, or no file')
    if args.out.is_dir():
        raise UserError(f'{args.out} is a folder: give --out the name of a file')
    try:
        classes = args.classes and args.classes.read_text(encoding='utf-8').split('\n')
    except UnicodeDecodeError as error:
        raise UserError(
            f'{args.classes} is no text in UTF-8: write one class name a line'
        ) from error
    classes = classes and [line.strip() for line in classes if line.strip()]
    cfg, model = export.load(launch.config_path(args.config), args.checkpoint)
    about = export.describe(cfg, model, classes)
    export.write_onnx(model, about, args.out, args.opset)
    differences = export.compare(model, about, args.out)
    size = ', '.join(counted(getattr(about, key), key) for key in ('persons', 'joints', 'channels'))
    print(f'{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, layout {about.layout}, {size}')
    for frames, difference in differences.items():
        print(f'  {frames} frames: differs from PyTorch by {difference:.1e} of the largest score')
    for name, seconds in export.latency(model, about, args.out).items():
        print(f'  one clip of {about.clip_len} frames by {name}: {1e3 * seconds:.1f} ms')


if __name__ == '__main__':
    options.run(main)
