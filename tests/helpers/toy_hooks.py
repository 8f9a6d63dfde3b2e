"""A hook that ends training as the kernel would."""

import os
import signal

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class KillHook(Hook):
    """Sends SIGKILL to its own process after as many iterations as TOY_KILL_AT says."""

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        if runner.iter + 1 == int(os.environ.get('TOY_KILL_AT', 0)):
            os.kill(os.getpid(), signal.SIGKILL)
