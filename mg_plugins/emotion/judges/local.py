"""A judge on this machine: a causal language model of `transformers`."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..tasks import JudgeError, Reply, Task


class LocalJudge:
    """Asks a causal language model in this process, one question at a time.

    The model is loaded with the first question and let go by `close`. A draw (`Task.sample`) of 0
    is greedy; further ones are sampled at ``sampling_temperature``, seeded with the seed and the
    draw's number.

    Args:
        model: A folder with model and tokenizer, or a name of which a copy is in the local
            Hugging Face cache.
        allow_download: Fetch a named model that is not there yet.
        device: Such as ``'cuda'``; by default a GPU if there is one.
        dtype: Such as ``'bfloat16'``; by default the one of the stored weights.
        max_tokens: Longest answer.
        sampling_temperature: Of further draws.
        seed: Of further draws.

    Raises:
        ImportError: `transformers` is not installed.
    """

    concurrency = 1  # `ask_all` asks no more at a time: waiting in a queue is no time-out

    def __init__(
        self,
        model: str,
        *,
        allow_download: bool = False,
        device: str | None = None,
        dtype: str = 'auto',
        max_tokens: int = 256,
        sampling_temperature: float = 0.7,
        seed: int = 0,
    ) -> None:
        _transformers()
        self.model, self.allow_download = str(model), allow_download
        self.device, self.dtype = device, dtype
        self.max_tokens, self.seed = max_tokens, seed
        self.sampling_temperature = sampling_temperature
        self.name = f'local: {Path(self.model).name}'
        self._files = _fingerprint(Path(self.model))
        self._loaded: tuple[Any, Any] | None = None
        self._thread: ThreadPoolExecutor | None = None

    def identity(self) -> dict[str, Any]:
        """Model and parameters; of a folder also what its weights' files look like."""
        return {
            'kind': 'local',
            'model': self.model,
            'files': self._files,
            'dtype': self.dtype,
            'max_tokens': self.max_tokens,
            'sampling_temperature': self.sampling_temperature,
            'seed': self.seed,
        }

    async def reply(self, task: Task) -> Reply:
        """Generate an answer in the judge's thread.

        Raises:
            JudgeError: The model cannot be loaded, or generating failed.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix='local-judge')
        stop = threading.Event()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._generate, task, stop)
        finally:
            stop.set()  # after a time-out or Ctrl-C: a thread cannot be cancelled, but it can look

    async def close(self) -> None:
        """Let go of the model."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.shutdown)
        self._loaded = None

    def _generate(self, task: Task, stop: threading.Event) -> Reply:
        if stop.is_set():
            raise JudgeError('cancelled', retry=True)
        import torch
        from transformers import StoppingCriteriaList

        model, tokenizer = self._loaded = self._loaded or self._load()
        inputs = _encode(tokenizer, task).to(model.device)
        settings: dict[str, Any] = {'do_sample': False}
        devices = [model.device] if model.device.type == 'cuda' else []
        # The program's own random state is left as it was: a training run may be around.
        with torch.random.fork_rng(devices=devices), torch.inference_mode():
            if task.sample:
                torch.manual_seed((self.seed + task.sample) % 2**63)
                settings = {'do_sample': True, 'temperature': self.sampling_temperature}
            try:
                out = model.generate(
                    **inputs,
                    **settings,
                    max_new_tokens=self.max_tokens,
                    pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
                    stopping_criteria=StoppingCriteriaList([_Stop(stop)]),
                )
            except (RuntimeError, ValueError, IndexError) as error:
                raise JudgeError(f'the model {self.model} failed: {error}') from None
        answer = out[0, inputs['input_ids'].shape[1] :]
        return Reply(tokenizer.decode(answer, skip_special_tokens=True), int(out.shape[1]))

    def _load(self) -> tuple[Any, Any]:
        import torch

        transformers = _transformers()
        options = {'local_files_only': not self.allow_download, 'trust_remote_code': False}
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.model, **options)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                self.model, dtype=self.dtype, **options
            )
            device = self.device or ('cuda' if torch.cuda.is_available() else 'cpu')
            return model.to(device).eval(), tokenizer
        except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
            hint = '' if self.allow_download else ' (nothing is downloaded unless allowed)'
            raise JudgeError(
                f'the model {self.model} cannot be loaded{hint}: a folder with config.json, '
                f'weights and tokenizer was expected: {str(error).splitlines()[0]}'
            ) from None


class _Stop:
    """Stopping criterion: the question is not waited for any more."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop

    def __call__(self, input_ids, scores, **_: Any):
        import torch

        return torch.full(
            (len(input_ids),), self.stop.is_set(), dtype=torch.bool, device=input_ids.device
        )


def _encode(tokenizer, task: Task):
    """The prompt's token ids (1, L) and mask, by the model's chat template if it has one."""
    if not tokenizer.chat_template:
        text = '\n\n'.join([task.system, task.user, ''])
        return tokenizer(text, return_tensors='pt', return_token_type_ids=False)
    messages = [
        {'role': 'system', 'content': task.system},
        {'role': 'user', 'content': task.user},
    ]
    options = {'add_generation_prompt': True, 'tokenize': False}
    try:
        text = tokenizer.apply_chat_template(messages, **options)
    except Exception:  # noqa: BLE001  templates without a system role raise errors of their own
        joined = [{'role': 'user', 'content': f'{task.system}\n\n{task.user}'}]
        text = tokenizer.apply_chat_template(joined, **options)
    # The template has written the special tokens already.
    return tokenizer(
        text, return_tensors='pt', add_special_tokens=False, return_token_type_ids=False
    )


def _fingerprint(folder: Path) -> list[list]:
    """Name, size and time of the files of a local model, so that a retrained one is another."""
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def _transformers():
    try:
        import transformers
    except ImportError:
        raise ImportError('this judge needs transformers: pip install -e ".[local]"') from None
    return transformers
