from tests.commands import without_late_threads

LATE = (
    "Exception in thread wandb-ServiceFinalizer:\n"
    "Traceback (most recent call last):\n"
    '  File "threading.py", line 1045, in _bootstrap_inner\n'
    "    self.run()\n"
    "wandb.sdk.lib.service.ServiceDiedError\n"
)


def test_a_late_thread_of_wandb_is_left_out_wherever_it_ends_and_nothing_else():
    lines = LATE.splitlines(keepends=True)
    for number in range(1, len(lines) + 1):
        assert without_late_threads(f"1/2\n{''.join(lines[:number])}done\n") == "1/2\ndone\n"
    log = "2026-12-01 11:53:19,590 - wandb.wandb_agent - INFO - exit\n"
    assert without_late_threads(log.join(lines)) == log * 4
    other = LATE.replace("wandb-ServiceFinalizer", "Thread-1")
    assert without_late_threads(other) == other
