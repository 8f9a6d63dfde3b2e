import json
import shutil

import numpy as np
import pytest
from tools_here import tool

from mg_plugins.data.annotations import save_annotations
from mg_plugins.emotion.build import FOLDER, build_scenarios, load_template, template_names
from mg_plugins.emotion.redact import Redactor, opaque_id
from mg_plugins.emotion.scenarios import Gesture, load_scenarios
from mg_plugins.emotion.sessions import (
    Session,
    load_sessions,
    sessions_from_annotations,
    sessions_from_clips,
    sessions_from_predictions,
    with_outcomes,
    with_transcripts,
)
from mg_plugins.emotion.transcripts import Utterance
from mg_plugins.errors import UserError

MATCH = load_template('post_match')
CLASSES = ['rub hand', 'head up', 'fold arm']


def clip(session, first, **fields):
    base = dict(session=session, subject='p', start=first, end=first + 30, fps=30.0, outcome='win')
    return {k: v for k, v in (base | fields).items() if v is not ...}


def annotations(path, count=6, **meta):
    """Sessions a, b, c of subjects Ann, Bob, Ann with two clips each; c is held out."""
    made = []
    for i in range(count):
        session = 'abc'[i // 2]
        fields = clip(session, 60 * (i % 2), subject='Bob' if session == 'b' else 'Ann')
        fields |= dict(frame_dir=f'{session}{i}', label=i % 3, outcome='lose' if i < 2 else 'win')
        made.append(fields | dict(keypoint=np.ones((1, 31, 22, 2), np.float32)))
    split = dict(
        sessions_train=['a0', 'a1', 'b2', 'b3'],
        sessions_test=['c4', 'c5'],
        xsub_val=['a0', 'a1', 'b2'],
    )
    save_annotations(path, split, made, dict(classes=CLASSES) | meta)
    return path


def predictions(
    path, rows, header='frame_dir,session,subject,start,end,fps,outcome,label,predicted'
):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join([f'{header},predicted_class,score', *rows]) + '\n')
    return path


def test_clips_become_sessions():
    clips = [
        clip('b', 90),
        clip('a', 0),
        clip('b', 15, fps='25', subject=...),
        clip('a', 60, fps=...),
    ]
    notes = []
    found = sessions_from_clips(clips, ['x', 'y', 'z', 'w'], [0.5, 1, 0.25, 1], notes=notes)
    assert [(s.id, s.subject, s.state) for s in found] == [('b', 'p', 'win'), ('a', 'p', 'win')]
    assert found[0].gestures == (Gesture('z', 0.6, 1.8, 0.25), Gesture('x', 3.0, 4.0, 0.5))
    assert found[1].gestures == (Gesture('y', 0.0, 1.0), Gesture('w', 2.0, 3.0))
    assert notes == [
        '1 clips without fps were taken to have 30',
        '1 clips without subject: their session stands for it',
    ]
    notes = []
    (zero,) = sessions_from_clips(
        [clip('a', 0, fps=0), clip('a', 60, fps='0.0')], 'xy', notes=notes
    )
    assert [g.start for g in zero.gestures] == [0, 2]
    assert notes == ['2 clips without fps were taken to have 30']
    (alone,) = sessions_from_clips([clip('a', 0, subject=..., outcome=...)], ['x'])
    assert (alone.subject, alone.state) == ('a', '')


@pytest.mark.parametrize(
    'clips, message',
    [
        ([clip(None, 0, frame_dir='v1')], "clip 'v1' has no session"),
        ([clip(' ', 0)], 'clip 0 has no session'),
        ([clip('a', 0, start=...)], 'clip 0, field start'),
        ([clip('a', 0, end='soon')], 'clip 0, field end'),
        ([clip('a', 40, end=30)], 'no span of time'),
        ([clip('a', 40, fps=-1)], 'clip 0: .* at -1 a second are no span of time .*fields'),
        ([clip('a', 40, fps='nan')], 'clip 0, field fps: a number'),
        ([clip('a', 40, fps=1e-320)], 'clip 0: frames 40 to 70 at .* within 1e[+]07 s'),
        ([clip('a', 40, end=4e8)], 'no span of time within'),
        ([clip('a', 40, end='9' * 400)], 'clip 0, field end'),
        ([clip('a', 0), clip('a', 40, outcome='lose')], "the outcome 'lose' here and 'win' before"),
        ([clip('a', 0), clip('a', 40, subject='q')], 'subject'),
    ],
)
def test_clips_that_make_no_session(clips, message):
    with pytest.raises(UserError, match=message):
        sessions_from_clips(clips, ['x'] * len(clips))


@pytest.mark.parametrize('suffix', ['pkl', 'npz'])
def test_annotations(tmp_path, suffix):
    path = annotations(tmp_path / f'set.{suffix}')
    sessions, _ = sessions_from_annotations(path)
    assert [(s.id, s.split) for s in sessions] == [('a', 'train'), ('b', 'train'), ('c', 'test')]
    assert [g.name for s in sessions for g in s.gestures] == CLASSES * 2
    # A split holds its own clips only, even of half a session.
    assert [len(s.gestures) for s in sessions_from_annotations(path, 'xsub_val')[0]] == [2, 1]
    assert {s.split for s in sessions_from_annotations(path, 'xsub_val')[0]} == {'test'}
    with pytest.raises(UserError, match="no split 'nope'; it has sessions_train"):
        sessions_from_annotations(path, 'nope')


@pytest.mark.parametrize('form', ['.npz', '.mg'])
def test_annotations_of_every_form_give_the_same(tmp_path, form):
    one, _ = load_sessions([annotations(tmp_path / 'set.pkl')])
    other, _ = load_sessions([annotations(tmp_path / f'set{form}')])
    assert one == other and len(one) == 3


@pytest.mark.parametrize('field', ['label', 'session'])
def test_clips_without_what_sessions_need(tmp_path, field):
    keypoint = np.ones((1, 31, 22, 2), np.float32)
    whole = clip('a', 0) | dict(frame_dir='v', label=0, keypoint=keypoint)
    del whole[field]
    save_annotations(tmp_path / 'a.pkl', dict(xsub_val=['v']), [whole], dict(classes=CLASSES))
    with pytest.raises(UserError, match="clip 'v' has (label none, but|no session)"):
        load_sessions([tmp_path / 'a.pkl'])


def test_annotations_without_names_of_classes(tmp_path):
    with pytest.raises(UserError, match='no class names'):
        sessions_from_annotations(annotations(tmp_path / 'set.pkl', classes=[]))
    with pytest.raises(UserError, match="'a1' has label 1, but there are 1"):
        sessions_from_annotations(annotations(tmp_path / 'set.pkl', classes=['x']))


def test_the_predictions_that_a_test_writes(tmp_path):
    from mg_plugins.data.mm.metrics import write_report

    clips = [clip('a', 0, frame_dir='a0'), clip('a', 60, frame_dir='a1'), clip('b', 0)]
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.2, 0.5, 0.3]])
    write_report(
        tmp_path / 'test', {'synthetic/top1': 1.0}, scores, np.array([0, 2, 1]), clips, CLASSES
    )
    sessions, source = load_sessions([tmp_path / 'test' / 'predictions.csv'], 'train')
    assert source == 'synthetic'
    assert [(s.id, s.split, s.state) for s in sessions] == [
        ('a', 'train', 'win'),
        ('b', 'train', 'win'),
    ]
    assert sessions[0].gestures == (Gesture('rub hand', 0, 1, 0.7), Gesture('fold arm', 2, 3, 0.8))


def test_predictions_of_several_folds(tmp_path):
    one = predictions(tmp_path / '1' / 'p.csv', ['c1,a,Ann,0,30,30,win,0,1,head up,0.9'])
    two = predictions(tmp_path / '2' / 'p.csv', ['c2,b,Bob,0,30,30,,0,0,rub hand,0.5'])
    sessions, _ = sessions_from_predictions([one, two])
    assert [(s.id, s.state) for s in sessions] == [('a', 'win'), ('b', '')]
    with pytest.raises(UserError, match=r"2/p\.csv, line 2: clip 'c2' is already in .*2/p\.csv"):
        sessions_from_predictions([one, two, two])


@pytest.mark.parametrize(
    'row, message',
    [
        ('c,a,Ann,0,30,30,win,0,1,head up,7.5', 'line 2: a predicted_class and a prob.* 7.5'),
        ('c,a,Ann,0,30,30,win,0,1,head up,', 'line 2, field score'),
        ('c,a,Ann,0,30,30,win,0,1,,0.5', "line 2: a predicted_class and .* '' and 0.5"),
        ('c,a,Ann,0,30', 'line 2: 11 cells'),
        ('c,,Ann,0,30,30,win,0,1,head up,0.5', "clip 'c' has no session"),
        ('c,a,Ann,0,30,-1,win,0,1,head up,0.5', "clip 'c': .* fields start, end and fps"),
        ('c,a,Ann,0,30,1e-320,win,0,1,head up,0.5', "clip 'c': .* within"),
    ],
)
def test_predictions_with_errors(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        sessions_from_predictions([predictions(tmp_path / 'p.csv', [row])])


def test_sources_that_are_none(tmp_path):
    path = predictions(tmp_path / 'p.csv', [], header='frame_dir,start,end')
    with pytest.raises(UserError, match='column session is missing'):
        load_sessions([path])
    with pytest.raises(UserError, match='train or test'):
        load_sessions([path], 'xsub_val')
    with pytest.raises(UserError, match='none.csv cannot be read .*; a .csv file'):
        load_sessions([tmp_path / 'none.csv'])
    (tmp_path / 'folder.csv').mkdir()
    with pytest.raises(UserError, match='cannot be read .Is a directory'):
        load_sessions([tmp_path / 'folder.csv'])
    for paths in ([], ['a.pkl', 'b.pkl'], ['a.txt'], ['a.pkl', 'b.csv']):
        with pytest.raises(UserError, match='expected one annotation file'):
            load_sessions(paths)


def test_outcomes_and_transcripts_join(tmp_path):
    sessions = [Session('a', 'p', ()), Session('b', 'q', (), 'win'), Session('c', 'r', (), 'win')]
    table = tmp_path / 'o.csv'
    table.write_text('session,subject,state\na,Ann,lose\nb,,\nd,,win\n')
    joined = with_outcomes(sessions, table)
    assert [(s.subject, s.state) for s in joined] == [('Ann', 'lose'), ('q', 'win'), ('r', 'win')]
    table.write_text('session,state\nA,lose\n')
    with pytest.raises(UserError, match=r"o.csv: no session of it is among these, such as 'a'"):
        with_outcomes(sessions, table)
    table.write_text('session,state\na,lose\na,win\n')
    with pytest.raises(UserError, match=r"line 3: session 'a' comes twice"):
        with_outcomes(sessions, table)
    said = {'a': [Utterance(61, 62, 'Hi Bob.', 'Ann Lee'), Utterance(63, 64, 'Yes.', 'Guest')]}
    joined, names = with_transcripts(sessions, said)
    assert joined[0].transcript == '[01:01] Speaker A: Hi Bob.\n[01:03] Speaker B: Yes.'
    assert joined[1].transcript == '' and names == ['Ann Lee']


def test_gestures_are_chosen_by_confidence():
    timeline = tuple(Gesture('x', i, i + 1, c) for i, c in enumerate((0.9, 0.2, 0.5, 0.8)))
    session = Session('a', 'p', timeline)
    (made,) = build_scenarios([session], MATCH, source='x', threshold=0.5)
    assert [g.start for g in made.gestures] == [0, 2, 3]
    assert build_scenarios([session], MATCH, source='x')[0].gestures == timeline


def test_sessions_of_a_state_that_is_none_of_the_template_are_left_out():
    states = ('WIN', '', 'draw', 'draw')
    sessions = [Session(i, 'p', (), state) for i, state in zip('abcd', states, strict=True)]
    notes = []
    made = build_scenarios(sessions, MATCH, source='x', notes=notes)
    assert [s.state for s in made] == ['win', '']
    assert notes == [
        "2 sessions left out, such as c: state 'draw' is none of the states of the template "
        'post_match: win, lose'
    ]
    with pytest.raises(UserError, match="no session is left: state 'draw' is none of"):
        build_scenarios(sessions[2:], MATCH, source='x')
    with pytest.raises(UserError, match='there are no clips'):
        build_scenarios([], MATCH, source='x')
    with pytest.raises(UserError, match="'a' comes twice"):
        build_scenarios([sessions[0]] * 2, MATCH, source='x')


def test_nothing_of_the_person_stays():
    sessions = [
        Session(f'final-{i}', ('Ann', 'Bob')[i % 2], (), 'win', f'Well, Ann. {i}') for i in range(8)
    ]
    made = build_scenarios(sessions, MATCH, source='real', redactor=Redactor(['Ann']))
    text = json.dumps([s.to_json() for s in made])
    assert not any(word in text for word in ('Ann', 'Bob', 'final'))
    assert len({s.subject for s in made}) == 2 and len({s.session for s in made}) == 8
    # Ids of another build are others, unless the salt is given.
    again = build_scenarios(sessions, MATCH, source='real')
    assert not {s.session for s in made} & {s.session for s in again}
    fixed = [build_scenarios(sessions, MATCH, source='real', salt='x') for _ in range(2)]
    assert fixed[0] == fixed[1]


def test_given_names_are_masked_in_gesture_names():
    names = ('Federer rubs hand', 'Hand of roger', 'rub hand')
    sessions = [Session('a', 'p', tuple(Gesture(n, 0, 1, 0.5) for n in names), 'win')]
    redactor = Redactor(['Roger Federer', 'Ann Hand'])
    (made,) = build_scenarios(sessions, MATCH, source='x', redactor=redactor)
    assert made.gestures == (
        Gesture('[PERSON 1] rubs hand', 0, 1, 0.5),
        Gesture('Hand of [PERSON 1]', 0, 1, 0.5),
        Gesture('rub hand', 0, 1, 0.5),
    )
    # Names of gestures are no transcripts, whose capital letters are looked at.
    assert redactor.masked['[PERSON 1]'] == 2 and not redactor.report() and not redactor.uncased


def test_exchanges_do_not_depend_on_the_salt():
    from mg_plugins.emotion.arms import derange

    gestures = [Gesture('x', 0, 1)]
    sessions = [Session(f's{i}', f'p{i % 5}', tuple(gestures * (i % 4)), 'win') for i in range(20)]
    draws = []
    for salt in ('a', 'b', None):
        made = build_scenarios(sessions, MATCH, source='x', salt=salt)
        assert [s.id for s in made] != sorted(s.id for s in made)
        draws.append(np.stack(derange(made, 2)).tolist())
    assert draws[0] == draws[1] == draws[2]


def test_open_ended_and_redactor():
    redactor = Redactor(['Ann'])
    (made,) = build_scenarios(
        [Session('a', 'p', (), '', 'Ann met Roger')],
        MATCH,
        open_ended=True,
        source='x',
        redactor=redactor,
    )
    assert made.open_ended and made.question == MATCH.open_question and made.state == ''
    assert made.states == ('win', 'lose') and made.valences == (1, -1)
    assert dict(redactor.possible) == {'Roger': {'a': 1}}


def main():
    return tool('build_scenarios')


def test_tool_from_start_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    annotations(tmp_path / 'set.pkl')
    (tmp_path / 'said').mkdir()
    (tmp_path / 'said' / 'a.srt').write_text(
        '1\n00:00:01,000 --> 00:00:02,000\nANN LEE: I met Roger, and Carol called me, says Lee.\n'
    )
    (tmp_path / 'said' / 'b.txt').write_text('Fine.')
    (tmp_path / 'outcomes.csv').write_text('session,state\nb,\nc,draw\n')
    (tmp_path / 'names.txt').write_text('Roger Stone\n')
    options = (
        '--out s.jsonl --transcripts said --outcomes outcomes.csv --names-file names.txt '
        '--salt secret'
    )
    assert main()(['set.pkl', *options.split()]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == '2 scenarios, source: set (annotated gestures)'
    assert 'lower case cannot be spotted' in printed
    assert '2 sessions have no transcript, such as b' in printed
    assert "1 session left out, such as c: state 'draw' is none" in printed
    assert 'state win: 1' in printed and 'masked as [PERSON 2]: 1' in printed
    assert 'Carol (1×: a)' in printed
    scenarios = load_scenarios('s.jsonl')
    assert len(scenarios) == 2 and {s.state for s in scenarios} == {'lose', 'win'}
    said = next(s.context for s in scenarios if s.state == 'lose')
    assert said.endswith(
        '[00:01] Speaker A: I met [PERSON 1], and Carol called me, says [PERSON 2].'
    )
    # Whoever knows the salt finds a session by its id.
    ids = {opaque_id('recording', name, 'secret') for name in 'abc'}
    assert {s.session for s in scenarios} < ids


def test_tool_with_a_template_of_ones_own(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    annotations(tmp_path / 'set.pkl', source='synthetic')
    text = (FOLDER / 'post_match.json').read_text()
    (tmp_path / 'mine.json').write_text(
        text.replace('"post_match"', '"mine"').replace('How did the match end', 'Who knows')
    )
    command = [
        'set.pkl',
        '--template',
        'mine.json',
        '--split',
        'sessions_test',
        '--out',
        'd/s.jsonl',
    ]
    assert main()([*command, '--min-confidence', '0.5']) == 0
    assert 'source: synthetic' in capsys.readouterr().out
    (made,) = load_scenarios('d/s.jsonl')
    assert 'Who knows' in made.question
    assert (made.domain, made.split, len(made.gestures)) == ('mine', 'test', 2)


def test_all_masked_speakers_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    annotations(tmp_path / 'set.pkl')
    (tmp_path / 'said').mkdir()
    people = ['Ada', 'Bea', 'Cleo', 'Dora', 'Edda', 'Frida']
    said = [dict(start=n, end=n + 1, text='Hello.', speaker=name) for n, name in enumerate(people)]
    (tmp_path / 'said' / 'a.json').write_text(json.dumps(said))
    assert main()('set.pkl --out s.jsonl --transcripts said'.split()) == 0
    printed = ' '.join(capsys.readouterr().out.split())
    assert f'speakers, masked in what is said as well: {", ".join(people)}' in printed


@pytest.mark.parametrize(
    'arguments, message',
    [
        ('set.pkl --out set.pkl', '--out set.pkl must be a file of its own'),
        ('set.pkl --out .', '--out . must be a file of its own'),
        ('set.pkl --out set.pkl/s.jsonl', '--out set.pkl/s.jsonl cannot be written'),
        ('set.pkl --out s.jsonl --template nope', "no template 'nope'"),
        ('set.pkl --out s.jsonl --template deception', "no session is left: state 'lose' is none"),
        ('set.pkl --out s.jsonl --split nope', 'no split'),
        ('set.pkl --out s.jsonl --transcripts nope', 'nope is no folder with a transcript'),
        (
            'set.pkl --out s.jsonl --names-file nope',
            'nope cannot be read (No such file or directory): UTF-8 text with a person a line',
        ),
        ('set.pkl --out s.jsonl --names-file .', '. cannot be read (Is a directory): UTF-8'),
        (
            'set.pkl --out s.jsonl --outcomes nope',
            'nope cannot be read (No such file or directory); a .csv file with the columns',
        ),
        ('set.pkl --out s.jsonl --transcripts set.pkl', 'set.pkl is no folder'),
        ('p.csv --out s.jsonl', '; a .csv file with the columns session, start'),
        ('set.pkl --out s.jsonl --min-confidence 2', '--min-confidence'),
        ('none.pkl --out s.jsonl', 'does not exist'),
        ('s.jsonl --out t.jsonl', 'expected one annotation file'),
    ],
)
def test_tool_errors(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    annotations(tmp_path / 'set.pkl')
    assert main()(arguments.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith('build_scenarios.py: ') and message in error and 'Errno' not in error
    assert not (tmp_path / 's.jsonl').exists()


@pytest.mark.parametrize(
    'arguments, missing', [('set.pkl', '--out'), ('--out s.jsonl', 'SOURCE'), ('', 'SOURCE, --out')]
)
def test_what_is_missing_is_one_sentence(capsys, arguments, missing):
    assert main()(arguments.split()) == 2
    wanted = f'the following arguments are required: {missing} (--help tells more)'
    assert capsys.readouterr().err == f'build_scenarios.py: {wanted}\n'


def test_tool_says_when_a_split_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    annotations(tmp_path / 'set.pkl')
    rows = ['c1,a,Ann,0,30,30,win,0,1,head up,0.9', 'c2,b,Bob,0,30,30,lose,0,1,head up,0.9']
    predictions(tmp_path / 'p.csv', rows)
    for command, noted in (
        ('p.csv', True),
        ('p.csv --split test', False),
        ('set.pkl', False),  # its own splits give both sides
        ('set.pkl --split sessions_test', False),
    ):
        assert main()([*command.split(), '--out', 's.jsonl']) == 0
        printed = capsys.readouterr().out
        assert ('need scenarios of split train' in printed and '--salt' in printed) == noted
        assert 'lower case' not in printed  # nothing was said


def test_templates_are_listed(capsys):
    assert main()(['--help']) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in template_names())


@pytest.mark.slow
def test_tool_as_a_process(tmp_path, run_tool):
    annotations(tmp_path / 'set.pkl')
    shutil.copy(FOLDER / 'deception.json', tmp_path / 'mine.json')
    failed = run_tool(
        'build_scenarios',
        'set.pkl',
        '--template',
        'mine.json',
        '--out',
        's.jsonl',
        cwd=tmp_path,
        check=False,
    )
    assert failed.returncode == 1 and 'Traceback' not in failed.stdout
    assert 'build_scenarios.py: mine.json, field name' in failed.stdout
