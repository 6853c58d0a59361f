"""A learning rate schedule that no YOLO paper has."""


def one_cycle(step, steps, peak):
    """
    Smith and Topin's one cycle (arXiv:1708.07120), in straight lines: from peak / 100 up to the peak for an eighth of
    the steps, then down to peak / 10,000. step counts from 1.
    """
    top = steps / 8
    if step < top:
        return peak * (0.01 + 0.99 * (step - 1) / (top - 1))
    return peak * (1 - 0.9999 * (step - top) / (steps - top))
