"""Counts the meta-iterations whose adapted policies cost more than their limit; a Lightning callback."""

from lightning.pytorch import Callback


class OverLimit(Callback):
    """Logs `watch/over_limit`, their number so far; one counts if its cost is more than `slack` over the limit."""

    def __init__(self, slack=0.0):
        self.slack, self.count = slack, 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        """Count this one."""
        metrics = outputs["iteration"].metrics
        limit = sum(task.cost_limit for task in batch) / len(batch)
        self.count += int(metrics["post/cost"] > limit + self.slack)
        pl_module.log("watch/over_limit", float(self.count), batch_size=len(batch))

    def state_dict(self):
        """What is saved in a checkpoint, so that a resumed run goes on counting."""
        return {"count": self.count}

    def load_state_dict(self, state_dict):
        """Go on from the number in the checkpoint."""
        self.count = state_dict["count"]
