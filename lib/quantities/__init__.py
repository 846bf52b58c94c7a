"""Quantities: one module a post, of pure functions from its runs to one number a seed.

A quantity is what a claim decides on and what a figure shows, so both come from the same lines. It takes the
post and keyword arguments, and returns a pandas Series indexed by seed, paired by seed where it compares two
arms::

    def gain(post, *, alpha: int) -> pd.Series:
        runs = post.runs("mistakes").where(alpha=alpha)
        better = runs.where(arm="corrected").per_seed("test_acc")
        return better - runs.where(arm="as_posted").per_seed("test_acc")

A seed that only one arm has gives NaN: leave it there, so that the verdict can say so. No quantity imports
torch.
"""
