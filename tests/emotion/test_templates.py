import json

import pytest

from mg_plugins.emotion.build import (
    FOLDER,
    NO_TRANSCRIPT,
    load_template,
    template_names,
)
from mg_plugins.errors import UserError

SHIPPED = {
    'post_match': ('win', 'lose'),
    'job_interview': ('confident', 'stressed'),
    'deception': ('truthful', 'deceptive'),
    'relaxed_stressed': ('relaxed', 'stressed'),
}


def test_the_shipped_templates_are_there_and_valid():
    assert template_names() == sorted(SHIPPED)
    for name, states in SHIPPED.items():
        template = load_template(name)
        assert template.name == name
        assert tuple(state.name for state in template.states) == states
        pleasant, unpleasant = (state.valence for state in template.states)
        assert pleasant > 0 > unpleasant
        # The arms differ in the timeline only, so nothing else may speak of gestures.
        sent = ' '.join([template.instruction, template.context, template.question])
        assert 'gesture' not in (sent + template.open_question).lower()


def test_context():
    template = load_template('post_match')
    assert template.render_context(' I said {this}. ').endswith('\nI said {this}.')
    assert template.render_context('').endswith(NO_TRANSCRIPT)


def test_states_are_found_whatever_their_case():
    template = load_template('post_match')
    assert template.state(' WIN') == 'win'
    assert template.state('draw') == '' == template.state('')


def edited(tmp_path, **changes):
    content = json.loads((FOLDER / 'post_match.json').read_text()) | {'name': 'mine'} | changes
    path = tmp_path / 'mine.json'
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))
    return path


def test_a_copy_is_given_by_its_path(tmp_path):
    path = edited(tmp_path, question='Who won?')
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())  # some editors write this mark
    assert load_template(path).question == 'Who won?'
    assert load_template(str(path)).name == 'mine'


@pytest.mark.parametrize(
    'changes, field',
    [
        ({'question': ...}, 'field question'),
        ({'question': ' '}, 'field question'),
        ({'rubric': []}, 'field rubric'),
        ({'rubric': 'short'}, 'field rubric'),
        ({'rubric': ['a', 3]}, r'field rubric\[1\]'),
        ({'colour': 'red'}, 'field colour'),
        ({'context': 'no slot'}, 'field context'),
        ({'context': '{transcript} {transcript}'}, 'field context'),
        ({'name': 'post_match'}, 'field name.*of a template of the package'),
        ({'name': 'a b'}, 'field name'),
        ({'states': [{'name': 'a', 'option': 'A', 'valence': 1}]}, 'field states'),
        ({'states': [{'name': 'a', 'option': 'A', 'valence': 2}]}, r'field states\[0\]\.valence'),
        (
            {'states': [{'name': 'a', 'option': 'A', 'valence': True}]},
            r'field states\[0\]\.valence',
        ),
        ({'states': [{'name': 'a', 'valence': 1}]}, r'field states\[0\]\.option'),
        ({'states': [{'name': n, 'option': 'A', 'valence': 1} for n in 'ab']}, 'field states'),
        ({'states': ['win', 'lose']}, r'field states\[0\]'),
    ],
)
def test_errors_name_file_and_field(tmp_path, changes, field):
    with pytest.raises(UserError, match=rf'mine\.json, {field}'):
        load_template(edited(tmp_path, **changes))


def test_no_such_template(tmp_path):
    with pytest.raises(UserError, match="'nothing'.*deception, job_interview"):
        load_template('nothing')
    (tmp_path / 'x.json').write_text('{')
    with pytest.raises(UserError, match='x.json is not JSON'):
        load_template(tmp_path / 'x.json')
    (tmp_path / 'x.json').write_text('[]')
    with pytest.raises(UserError, match='x.json: a JSON object'):
        load_template(tmp_path / 'x.json')
