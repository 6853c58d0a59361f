"""
The YOLO9000 loss. An image with boxes teaches boxes, objectness and classes; an image with a label alone teaches one
predictor the class and some objectness.

Paper   "YOLO9000: Better, Faster, Stronger", Redmon and Farhadi, 2016 (arXiv:1612.08242), section 4, "Joint
        classification and detection".
Source  The paper describes the loss in words. Statements marked [darknet] come from src/region_layer.c of
        pjreddie/darknet at f6afaab and at d2dece3d, the release of YOLO9000 in January 2017.

A predictor is one anchor in one cell. It predicts t_x, t_y, t_w, t_h, t_o and n outputs, one for each node of the tree;
yolov2/yolo9000/wordtree.py says what they mean. Pr(c) is short for Pr(c | physical object), as in wordtree.py. There
are two kinds of images.

With boxes    The loss of yolov2/loss.py, except for the term class. A responsible predictor learns its object's label
              c on the path of c to the root, and nothing below c or beside the path. (The paper's sentence "we do
              assign any error to predictions further down in the tree" lacks a "not".)

    class      - LAMBDA_CLASS sum_responsible log Pr(c)

              A slot is the (image, anchor, row, column) of a predictor; a group is a set of siblings. If two objects
              share a slot, the later one decides box and objectness. In a group that both paths cross, the later node
              is learned; in a group that only the earlier path crosses, the earlier one still is [darknet].

Label alone   One predictor learns the label c: the best one, whose Pr(physical object) Pr(c) is the highest [darknet],
              where Pr(physical object) = sigmoid(t_o). Its box is assumed to overlap the object by an IOU of at least
              BEST_OBJECTNESS [paper]. The terms of the image are

    class      - LAMBDA_CLASS log Pr(c), of the best predictor
    object     1/2 LAMBDA_OBJECT (sigmoid(t_o) - BEST_OBJECTNESS)^2, of the best predictor, if sigmoid(t_o) is lower:
               it is raised, never lowered [darknet]
    no_object  1/2 LAMBDA_NOOBJ sum_others sigmoid(t_o)^2. The paper does not say that the others are background
               [darknet]

              Such an image adds nothing to xy, wh and prior.

BEST_OBJECTNESS is .3 in the paper and in the release. Darknet has had no term object for these images since July 2017;
None means this. The factor 2 - w h of xy and wh is of March 2017, newer than the release; SIZE_WEIGHT = False in
yolov2/loss.py removes it.

yolo9000_loss returns the mean L over the B images of the batch, of both kinds. What Darknet calls delta is -B dL/dt.

What changed from yolov2/loss.py: a label is a node of a tree and is learned as a path; there are images without boxes.

    python yolov2/yolo9000/loss.py      prints the terms of an image with a label alone
"""
import torch

from shared.boxes import shape_iou
from yolov2.loss import LAMBDA_CLASS, LAMBDA_NOOBJ, LAMBDA_OBJECT, WARM_UP_IMAGES, yolov2_loss
from yolov2.yolo9000.model import ANCHORS
from yolov2.yolo9000.wordtree import log_conditionals, make_tree, path_to_root

BEST_OBJECTNESS = 0.3   # [paper]; None: the best predictor of an image without boxes learns no objectness [darknet]


@torch.no_grad()
def slots_of(targets, anchors, H, W):
    """targets (N, 6) as below -> N times (image, anchor, row, column): the predictor responsible for each object"""
    grid = targets.new_tensor([W, H])
    best = shape_iou(targets[:, 4:6] * grid, targets.new_tensor(anchors)).argmax(1).tolist()
    centres = (targets[:, 2:4] * grid).tolist()
    images = targets[:, 0].long().tolist()
    return [(image, anchor, min(int(y), H - 1), min(int(x), W - 1))
            for image, anchor, (x, y) in zip(images, best, centres)]


@torch.no_grad()
def best_slot(prediction, image, label, tree):
    """
    The predictor (image, anchor, row, column) of an image without boxes that gives the label, a node, the highest
    Pr(physical object) Pr(label), in case of a tie the first.
    """
    p = prediction[image, ..., 4].sigmoid()                                  # (A, H, W)
    for node in path_to_root(tree, label):
        first = tree.offset[tree.group[node]]
        siblings = prediction[image, ..., 5 + first:5 + first + tree.size[tree.group[node]]]     # (A, H, W, siblings)
        p = p * siblings.softmax(-1)[..., node - first]
    A, H, W = p.shape
    best = int(p.flatten().argmax())
    return image, best // (H * W), best // W % H, best % W


def yolo9000_loss(prediction, targets, tree, anchors=ANCHORS, seen=WARM_UP_IMAGES):
    """
    prediction  (B, A, H, W, 5 + n): raw network output
    targets     (N, 6)  image, label, centre x, centre y, width, height as in yolov2_loss. The label is a node of the
                tree. An image without boxes has a single row, whose width and height are 0. The tensor
                stays on the CPU
    seen        as in yolov2_loss
    returns     a dict of scalars, each the mean over the images: xy, wh, object, no_object, class, prior, total
    """
    prediction, targets = prediction.float(), targets.float()
    B, A, H, W = prediction.shape[:4]
    without_box = targets[:, 4] == 0                                         # (N,)
    label_alone = set(targets[without_box, 0].long().tolist())               # images
    boxed_images = [image for image in range(B) if image not in label_alone]

    # Images with boxes. Slice the head to t_x ... t_o and one class output. With one class the softmax is 1 and the
    # class term 0, so yolov2_loss returns all other terms
    objects = targets[~without_box]                                          # (M, 6)
    of_one_class = objects.clone()
    of_one_class[:, 0] = torch.searchsorted(torch.tensor(boxed_images, dtype=torch.long), objects[:, 0].long())
    of_one_class[:, 1] = 0
    loss = dict.fromkeys(["xy", "wh", "object", "no_object", "class", "prior"], prediction.new_zeros(()))
    if boxed_images:
        terms = yolov2_loss(prediction[boxed_images][..., :6], of_one_class, anchors, seen)
        loss = {term: terms[term] * (len(boxed_images) / B) for term in loss}            # the mean over B images

    # The classes. Each responsible predictor learns one node in each group on the path of its object; if it has two
    # objects, the later one decides where both have the group on their paths
    taught = {}                                              # (slot, group) -> node
    for slot, label in zip(slots_of(objects, anchors, H, W), objects[:, 1].long().tolist()):
        for node in path_to_root(tree, label):
            taught[slot, tree.group[node]] = node

    # Images with a label alone
    for image, label in targets[without_box, :2].long().tolist():
        slot = best_slot(prediction, image, label, tree)
        for node in path_to_root(tree, label):
            taught[slot, tree.group[node]] = node
        objectness = prediction[image, ..., 4].sigmoid()                     # (A, H, W)
        best = objectness[slot[1:]]
        loss["no_object"] = loss["no_object"] + 0.5 * LAMBDA_NOOBJ * (objectness.square().sum() - best.square()) / B
        if BEST_OBJECTNESS is not None and best < BEST_OBJECTNESS:
            loss["object"] = loss["object"] + 0.5 * LAMBDA_OBJECT * (best - BEST_OBJECTNESS).square() / B

    if taught:
        slots = sorted({slot for slot, _ in taught})
        row_of = {slot: row for row, slot in enumerate(slots)}
        rows = [row_of[slot] for slot, _ in taught]
        log_p = log_conditionals(prediction[tuple(torch.tensor(slots).T)][:, 5:], tree)          # (R, n)
        loss["class"] = -LAMBDA_CLASS * log_p[rows, list(taught.values())].sum() / B
    loss["total"] = sum(loss.values())
    return loss


if __name__ == "__main__":
    # An image with a label alone, the node "dog", and one cell with one anchor; a network that predicts 0.
    animals = make_tree(["animal", "vehicle", "dog", "cat"], [-1, -1, 0, 0])
    for term, value in yolo9000_loss(torch.zeros(1, 1, 1, 1, 9), torch.tensor([[0, 2, 0, 0, 0, 0.]]), animals).items():
        print(f"{term:<10} {value.item():14.6f}")
