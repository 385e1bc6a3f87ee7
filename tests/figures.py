"""What every figure must be: readable."""

from itertools import combinations

from matplotlib.text import Text


def texts_of(figure):
    """The texts that are seen in a rendered figure, and their boxes in pixels."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    found = []
    # Ticks beyond the limits of an axis exist, but are not drawn.
    unseen = set()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            ticks = {*axis.get_major_ticks(), *axis.get_minor_ticks()}
            for tick in ticks - set(axis._update_ticks()):
                unseen |= {tick.label1, tick.label2}
            if not (axis.get_visible() and ax.axison):
                unseen |= set(axis.findobj(Text))
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text not in unseen:
            box = text.get_window_extent(renderer)
            if box.width and box.height:
                found.append((text.get_text(), box))
    return found


def unreadable(figure, texts=None):
    """Texts that overlap or leave the figure, and axes without room.

    Parameters
    ----------
    figure : Figure
    texts : list, optional
        What `texts_of` gives, which draws the figure. Drawing is most of the work.

    Returns
    -------
    complaints : list of str
        Empty where all can be read.
    """
    if texts is None:
        texts = texts_of(figure)
    complaints = [
        f"{one!r} overlaps {other!r}"
        for (one, box), (other, other_box) in combinations(texts, 2)
        # Boxes hold room for descenders, so that a pixel is no overlap.
        if box.padded(-1).overlaps(other_box.padded(-1))
    ]
    complaints += [
        f"{text!r} leaves the figure: {box.extents.round()}"
        for text, box in texts
        if min(box.x0, box.y0) < -1
        or box.x1 > figure.bbox.x1 + 1
        or box.y1 > figure.bbox.y1 + 1
    ]
    for ax in figure.axes:
        width, height = ax.get_window_extent().size / figure.dpi
        # A colour bar is slim.
        if ax.axison and (min(width, height) < 0.05 or max(width, height) < 0.6):
            complaints.append(f"axes of {width:.2f} x {height:.2f} inches")
    return complaints
