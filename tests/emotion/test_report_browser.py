"""The report as a real browser shows it, headless."""

import html
import re
import shutil
import subprocess

import pytest

from mg_plugins.emotion.report import render_report

from report_samples import sample

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason='no chromium here (Debian: apt-get install chromium)'),
    pytest.mark.slow,
]
HOSTILE = (
    '</script><script>document.title="owned"</script>'
    '<img src=x onerror=\'document.title="owned"\'>"onfocus="document.title=`owned`"'
)
UNBROKEN = 'x' * 400


@pytest.fixture(scope='module')
def dom(tmp_path_factory):
    """The document of a file once its scripts have run."""
    profile = tmp_path_factory.mktemp('profile')

    def load(path, fragment='', width=1280):
        command = [CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic']
        command += ['--no-first-run', '--disable-background-networking', '--disable-sync']
        command += ['--disable-component-update', '--disable-dev-shm-usage', '--dump-dom']
        command += ['--virtual-time-budget=4000']  # timers run, without waiting for them
        command += [f'--user-data-dir={profile}', f'--window-size={width},900']
        done = subprocess.run(
            [*command, path.as_uri() + fragment], capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, done.stderr[-2000:]
        # What stands in the data block and in the script itself is not what the page shows.
        return re.sub(r'<(script|style)[^>]*>.*?</\1>', '', done.stdout, flags=re.S)

    return load


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    """Two sets; a word that only one case of the first holds, and hostile text in the second."""
    first, second = sample(120), sample(6, seed=1, name='second set', hostile=HOSTILE)
    first[1][8]['text'] = 'An albatross would have said so.'
    first[1][9] |= dict(text=UNBROKEN, user=UNBROKEN)
    third = sample(4, seed=2, name='third set', open_ended=True)
    path = tmp_path_factory.mktemp('report') / 'report.html'
    path.write_text(render_report(*zip(first, second, third, strict=True)))
    return path


def cases(page):
    return page.count('class="case card"')


def test_draws_every_figure_and_the_first_twenty_cases(report, dom):
    page = dom(report)
    titles = ('Accuracy', 'Gains', 'Confidence', 'Gestures where answers moved')
    for title in titles:
        assert page.count(f'<h3>{title}</h3>') == 3, title
    assert page.count('<h3>Evidence</h3>') == 2
    assert page.count('<h3>Open-ended answers</h3>') == 1
    assert page.count('the gestures change accuracy by +20 points') == 3  # findings, first of all
    assert page.index('class="findings"') < page.index('<h3>Accuracy')
    assert 'SYNTHETIC' in page and 'not a language model' in page
    assert '131 cases' in page and cases(page) == 20 and 'Show 20 more of 111 cases' in page
    # Pictures have a text alternative.
    drawn = re.findall(r'<svg[^>]*role="img"[^>]*>', page)
    assert len(drawn) > 30 and all('aria-label="' in s for s in drawn)
    assert 'NaN' not in page and 'undefined' not in page and '[object' not in page


def test_the_address_carries_search_and_filters(report, dom):
    page = dom(report, '#q=ALBATROSS')
    assert cases(page) == 1 and '<strong>q0001</strong>' in page and '1 of 131 cases' in page
    # That answer is in the arm without gestures.
    assert cases(dom(report, '#q=albatross&arm=with')) == 0
    page = dom(report, '#moved=right&truth=win&set=0')
    shown = int(re.search(r'(\d+) of 131 cases', page)[1])
    assert 0 < shown < 60 and page.count('gestures moved it to right') == min(shown, 20)
    assert 'true state: lose' not in page and 'gestures moved it to wrong' not in page


def test_hostile_text_is_shown_and_does_not_run(report, dom, tmp_path):
    page = dom(report, '#q=onerror')
    assert cases(page) == 1
    assert '<title>Emotion understanding, with and without micro-gestures</title>' in page
    assert '<img' not in page and '&lt;img src=x onerror=' in page
    # The policy of the page holds, even against markup that got in.
    broken = tmp_path / 'broken.html'
    text = report.read_text()
    broken.write_text(text.replace('<main>', f'<main>{HOSTILE}', 1))
    page = dom(broken)
    assert '<img' in page and '<title>owned</title>' not in page
    # The check can fail: without the policy, the same page runs it.
    broken.write_text(re.sub('<meta http-equiv[^>]*>', '', broken.read_text()))
    assert '<title>owned</title>' in dom(broken)


@pytest.mark.parametrize('width', [390, 1280])
def test_nothing_stands_out_sideways(report, dom, tmp_path, width):
    """The page in a frame of that width (a browser's window may have a least width)."""
    page = tmp_path / 'frame.html'
    page.write_text(
        f'<meta charset="utf-8"><iframe style="width:{width}px;height:900px;border:0" '
        f'srcdoc="{html.escape(report.read_text())}"></iframe><script>onload = () => {{'
        'const d = document.querySelector("iframe").contentDocument;'
        ''
        'for (const b of d.querySelectorAll("details")) b.open = true;'
        'requestAnimationFrame(() => setTimeout(() => {'
        'const wide = [...d.querySelectorAll("body *")].filter((e) => '
        'e.getBoundingClientRect().right > d.documentElement.clientWidth + 1 && '
        '!e.closest("svg, caption")).map((e) => e.tagName + "." + e.className);'
        'document.title = d.documentElement.scrollWidth + " " + d.querySelectorAll("pre").length'
        ' + " " + [...new Set(wide)].join();}, 200));}</script>'
    )
    shown, prompts, *wide = re.search('<title>(.*?)</title>', dom(page))[1].split()
    assert int(prompts) > 100
    assert int(shown) <= width and not wide


def test_a_report_of_one_set_shows_no_stray_value(tmp_path, dom):
    metrics, records = sample(4)
    (tmp_path / 'one.html').write_text(render_report([metrics], [records]))
    shown = re.sub(r'<[^>]+>', '\n', dom(tmp_path / 'one.html'))
    assert 'Accuracy' in shown
    for stray in ('false', 'undefined', 'null', 'NaN', '[object Object]'):
        assert not re.search(rf'^\s*{re.escape(stray)}\s*$', shown, re.M), stray
