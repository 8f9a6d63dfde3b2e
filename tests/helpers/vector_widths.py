"""Prints, as JSON, the bytes of the widest global load of each mix kernel, by number of joints."""

import json
import re

import torch

from mg_plugins.kernels import aot


def widest_load(ptx: str) -> int:
    loads = re.findall(r'ld\.global[.\w:]*?(?:\.v(\d))?\.[bfus](\d+)\b', ptx)
    return max(int(count or 1) * int(bits) // 8 for count, bits in loads)


if __name__ == '__main__':
    widths = {}
    for joints in (20, 22, 25, 32):
        # 21 frames: neither the frame graph nor a channel's start allows a wider load by itself.
        for variant in aot.variants(torch.bfloat16, 21, joints, 64, 1, 'sm_90'):
            if variant.name in ('mix_forward', 'mix_backward'):
                ptx = aot.compile_variant(variant, 'sm_90').asm['ptx']
                widths.setdefault(joints, {})[variant.name] = widest_load(ptx)
    print(json.dumps(widths))
