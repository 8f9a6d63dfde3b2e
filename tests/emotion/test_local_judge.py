"""The local judge with a tiny random language model that is made on the spot."""

import asyncio
import threading
from dataclasses import replace

import pytest
import torch

from mg_plugins.emotion.ask import ask_all
from mg_plugins.emotion.cache import Cache
from mg_plugins.emotion.judges import local, make_judge
from mg_plugins.emotion.prompts import answer_schema
from mg_plugins.emotion.tasks import FAILED, NOT_ASKED, UNPARSABLE, JudgeError, Task

transformers = pytest.importorskip('transformers', reason='transformers is not installed')
tokenizers = pytest.importorskip('tokenizers', reason='tokenizers is not installed')

TASK = Task(
    system='You judge.',
    user='Did they win?',
    schema=answer_schema(2),
    context='',
    gestures=None,
    options=('lost', 'won'),
    states=('lose', 'win'),
    valences=(-1.0, 1.0),
    domain='post_match',
)
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' and strict %}{{ raise_exception('no') }}"
    "{% endif %}<s>{{ m['role'] }}: {{ m['content'] }}{% endfor %}<s>assistant:"
)


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """Folder of a Llama with two layers and a tokenizer of single bytes."""
    folder = tmp_path_factory.mktemp('tiny')
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(['<pad>', '<s>', '</s>', *alphabet])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token='<pad>', bos_token='<s>', eos_token='</s>'
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def replies(judge, *tasks):
    async def ask():
        try:
            return [await judge.reply(task) for task in tasks]
        finally:
            await judge.close()

    return asyncio.run(ask())


def test_the_first_draw_is_greedy_and_others_are_seeded(tiny):
    judge = make_judge('local', model=str(tiny), max_tokens=20)
    before = torch.random.get_rng_state()
    one, same, two, again, three = replies(
        judge, TASK, TASK, *(replace(TASK, sample=n) for n in (1, 1, 2))
    )
    assert one == same and two == again and len({one.text, two.text, three.text}) == 3
    assert len(f'{TASK.system}\n\n{TASK.user}\n\n') < one.tokens
    assert one.tokens <= len(f'{TASK.system}\n\n{TASK.user}\n\n') + 20
    assert torch.equal(before, torch.random.get_rng_state())  # a training run may be around


def test_it_is_asked_one_at_a_time_and_cached(tiny, tmp_path):
    judge = make_judge('local', model=str(tiny), max_tokens=5)
    tasks = [replace(TASK, user=f'Question {i}') for i in range(4)]
    with Cache(tmp_path / 'c') as cache:
        asked = ask_all(judge, tasks, cache=cache, concurrency=8, reask=0)
        assert {answer.status for answer in asked.answers} <= {UNPARSABLE, 'answered', 'refused'}
        assert (asked.calls, asked.stopped) == (4, '') and asked.tokens > 0
        judge = make_judge('local', model=str(tiny), max_tokens=5)
        again = ask_all(judge, tasks, cache=cache, reask=0)
        assert again.replies == asked.replies and (again.calls, again.cached) == (0, 4)


def test_the_chat_template_is_used(tiny):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = TEMPLATE.replace('strict', 'false')
    text = tokenizer.decode(local._encode(tokenizer, TASK)['input_ids'][0])
    assert text == '<s>system: You judge.<s>user: Did they win?<s>assistant:'
    # Some templates know no system role: its text then opens the user's.
    tokenizer.chat_template = TEMPLATE.replace('strict', 'true')
    text = tokenizer.decode(local._encode(tokenizer, TASK)['input_ids'][0])
    assert text == '<s>user: You judge.\n\nDid they win?<s>assistant:'


def test_without_a_template_the_messages_are_joined(tiny):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    text = tokenizer.decode(local._encode(tokenizer, TASK)['input_ids'][0])
    assert text == 'You judge.\n\nDid they win?\n\n'


def test_one_that_is_given_up_stops_generating(tiny, monkeypatch):
    judge, made = make_judge('local', model=str(tiny), max_tokens=500), []
    generate = judge._generate
    monkeypatch.setattr(judge, '_generate', lambda *args: made.append(generate(*args)) or made[-1])
    replies(judge, TASK)

    async def give_up():
        task = asyncio.ensure_future(judge.reply(TASK))
        while judge._loaded is None:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await judge.close()  # waits for the thread
        return task.cancelled()

    assert asyncio.run(give_up())
    whole, cut = made
    assert cut.tokens < whole.tokens and whole.text.startswith(cut.text.rstrip('\ufffd'))
    assert not [t for t in threading.enumerate() if t.name.startswith('local-judge')]


def test_a_model_that_is_not_there_says_so_once_and_nothing_is_downloaded(tmp_path):
    judge = make_judge('local', model=str(tmp_path / 'nothing'))
    with pytest.raises(JudgeError, match='nothing is downloaded.*config.json') as caught:
        replies(judge, TASK)
    assert not caught.value.retry
    asked = ask_all(judge, [replace(TASK, user=str(i)) for i in range(20)])
    assert 'cannot be loaded' in asked.stopped and asked.calls == 5
    assert {answer.status for answer in asked.answers} == {FAILED, NOT_ASKED}
    with pytest.raises(JudgeError, match='cannot be loaded'):
        replies(make_judge('local', model='nobody/has-this-model'), TASK)


def test_retrained_weights_are_another_judge(tiny, tmp_path):
    folder = tmp_path / 'model'
    folder.mkdir()
    for file in tiny.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    one = make_judge('local', model=str(folder)).identity()
    assert one == make_judge('local', model=str(folder)).identity()
    (folder / 'model.safetensors').write_bytes(b'other')
    assert one != make_judge('local', model=str(folder)).identity()
