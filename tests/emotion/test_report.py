"""The report's file: one, whole, self-contained, and safe to open. Its sample data is here too."""

import base64
import copy
import hashlib
import json
import math
import re

import numpy as np
import pytest

from mg_plugins.emotion.evaluation import Evaluation
from mg_plugins.emotion.report import print_tables, render_report, write_results

from report_samples import sample


def data_of(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(found[1])


def test_everything_is_in_the_one_file_and_comes_back(tmp_path):
    (metrics, records), second = sample(), sample(seed=1, name='synthetic, unlinked')
    sets = [Evaluation(metrics, records), Evaluation(*second)]
    paths = write_results(tmp_path / 'deep/er', sets)
    page = paths['report'].read_text(encoding='utf-8')
    assert sorted((tmp_path / 'deep/er').iterdir()) == sorted(paths.values())
    data = data_of(page)
    assert data['evaluations'] == [metrics, second[0]]
    fields, strings = data['fields'], data['strings']
    assert [len(rows) for rows in data['records']] == [len(records), len(second[1])]
    for row, record in zip(data['records'][0], records, strict=True):
        for place, field in enumerate(fields):
            value = row[place]
            if place < data['texts'] and value is not None:
                value = strings[value]
            assert value == record.get(field), field
    assert len(strings) == len(set(strings))


def test_without_outcomes_there_is_no_table_of_them(capsys):
    metrics = copy.deepcopy(sample()[0])
    print_tables(metrics)
    assert 'McNemar p' in capsys.readouterr().out
    for of in metrics['comparisons'].values():
        of['gain'] = dict(value=None, low=None, high=None)
    print_tables(metrics)
    out = capsys.readouterr().out
    assert 'McNemar p' not in out and 'no scenario has an outcome' in out


def test_the_page_asks_no_network_and_runs_only_its_own_script():
    page = render_report(*[[part] for part in sample()])
    shell = page.replace(re.search(r'id="data">(.*?)</script>', page, re.S)[1], '')
    assert not re.search(r'\b(?:src|href)\s*=\s*(?!["\']?#)', shell)
    assert not re.search(
        r'@import|url\(|fetch\(|XMLHttp|innerHTML|outerHTML|insertAdjacent|eval\(', shell
    )
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "default-src 'none'" in policy and 'unsafe' not in policy
    for tag in ('style', 'script'):
        inline = re.findall(rf'<{tag}>(.*?)</{tag}>', page, re.S)
        assert len(inline) == 1
        digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize(
    'text',
    [
        '</script><script>document.title="owned"</script>',
        '<!-- <script> -->',
        '\u2028\u2029 \ud800 lone \x00',
        '@@SCRIPT@@ @@DATA@@ \\g<0> \\1',
    ],
)
def test_hostile_text_stays_text(text):
    metrics, records = sample(4, hostile=text)
    page = render_report([metrics], [records])
    page.encode()
    data = data_of(page)
    assert text in data['strings'] and data['evaluations'][0]['gestures'][0]['name'] == text
    assert page.count('</script>') == 2 and page.count('<script') == 2


def test_numbers_that_json_does_not_have():
    metrics, records = sample(4)
    metrics['arms']['with']['ece'] = math.nan
    metrics['arms']['with']['accuracy'] = dict(value=np.float64(0.5), low=-math.inf, high=math.nan)
    metrics['arms']['with']['brier'] = np.float64(0.5)
    records[0]['confidence'] = math.inf
    records[0]['correct'] = np.bool_(True)
    content = data_of(render_report([metrics], [records]))
    arm = content['evaluations'][0]['arms']['with']
    assert arm['ece'] is None and arm['accuracy'] == dict(value=0.5, low=None, high=None)
    assert arm['brier'] == 0.5
    row = dict(zip(content['fields'], content['records'][0][0], strict=True))
    assert row['confidence'] is None and row['correct'] is True


def test_a_report_that_cannot_be_made_leaves_the_old_one(tmp_path):
    old = write_results(tmp_path, [])['report'].read_text()
    metrics, records = sample(4)
    with pytest.raises(TypeError):
        write_results(tmp_path, [Evaluation(metrics | {'notes': {1, 2}}, records)])
    assert (tmp_path / 'report.html').read_text() == old and len(list(tmp_path.iterdir())) == 3


def test_thousands_of_records_stay_small():
    metrics, records = sample(1000)
    assert len(records) == 8000
    assert len(render_report([metrics], [records])) < 3e6
