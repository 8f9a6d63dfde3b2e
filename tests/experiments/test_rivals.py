"""What the fusion is compared with: CTR-GCN in small and SF-Head, and the table of all of them."""

import json

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope

from mg_plugins.experiments.mm import SFHead
from mg_plugins.experiments.plan import Cell, choose, read_cells
from mg_plugins.fusion import fusions

from paths import ROOT

SIZES = dict(base_channels=16, num_stages=3, inflate_stages=[2], down_stages=[3], num_person=1)
CTR = dict(type='SmallCTRGCN', graph_cfg=dict(layout='coco', mode='spatial'), **SIZES)
AGCN = dict(CTR, type='AAGCN', gcn_attention=False)


def build(kind, backbone=CTR, **options):
    init_default_scope('mmaction')
    return MODELS.build(dict(type=kind, backbone=dict(backbone), **options))


def test_the_graph_of_a_ctr_gcn_differs_by_channel_once_it_is_refined():
    block = build('MGPlain').gcn[1].gcn.eval()
    x = torch.randn(2, 16, 6, 17)
    x[:, :, :, 3:] = 0  # what reaches joint 9, far from these, comes by the refinement alone
    before = block(x)
    far = block(torch.zeros_like(x))
    torch.testing.assert_close(before[..., 10], far[..., 10])
    block.alpha.data.fill_(1.0)
    after = block(x)
    assert (after[..., 10] - before[..., 10]).abs().amax((0, 2)).count_nonzero() > 8


@pytest.mark.parametrize('backbone', [CTR, AGCN], ids=lambda cfg: cfg['type'])
def test_rivals_stand_between_graph_and_frames_and_fusions_after_blocks(backbone):
    clip = torch.randn(2, 1, 8, 17, 3)
    plain, rival, fused = (
        build(kind, backbone, **options)
        for kind, options in (('MGPlain', {}), ('SFHead', dict(groups=4)), ('MGFuse', {}))
    )
    shapes = {module(clip).shape for module in (plain, rival, fused)}
    assert shapes == {torch.Size([2, 1, 32, 4, 17])}
    heads = [name for name, module in rival.named_modules() if isinstance(module, SFHead)]
    assert heads == ['gcn.0.gcn.1', 'gcn.1.gcn.1', 'gcn.2.gcn.1']
    assert fusions(fused) and not fusions(rival)
    rival(clip).sum().backward()
    assert all(p.grad is not None for p in rival.parameters())


def test_sf_head_passes_a_quarter_and_refuses_other_widths():
    head = SFHead(16, groups=2).eval()
    x = torch.randn(3, 16, 5, 4)
    halves = head(x).view(3, 8, 2, 5, 4).transpose(1, 2).reshape(3, 16, 5, 4)  # before the shuffle
    for group in (0, 8):
        torch.testing.assert_close(halves[:, group + 6 : group + 8], x[:, group + 6 : group + 8])
        scaled = x[:, group : group + 2] * torch.sigmoid(torch.tensor(1.0))
        torch.testing.assert_close(halves[:, group : group + 2], scaled)
    with pytest.raises(ValueError, match='no multiple of 32'):
        SFHead(48)


def test_the_twelve_cells_are_one_recipe():
    cells = read_cells(ROOT / 'configs' / 'fusion_cells.json', Cell(()))
    assert len(cells) == 12 and {len(cell.entries) for cell in cells} == {3}
    rows = {json.dumps([[e.name, e.options, e.seeds] for e in cell.entries]) for cell in cells}
    assert len(rows) == 1
    backbones = {
        tuple(o for o in cell.options if o.startswith('model.backbone.')) for cell in cells
    }
    assert len(backbones) == 4
    steps = {'MSR': 50 * 291, 'NW-': 15 * 1020, 'SFI': 60 * 234}
    for cell in cells:
        clips = steps[cell.name.split(', ')[1][:3]]
        assert 800 < clips / 16 < 1000 and choose(cell, ['plain', 'fused']).reference == 'fused'
