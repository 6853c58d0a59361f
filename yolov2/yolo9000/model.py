"""
The YOLO9000 networks: detectors with three anchors and one output for each node of a tree, and classifiers.

Paper   "YOLO9000: Better, Faster, Stronger", Redmon and Farhadi, 2016 (arXiv:1612.08242), section 4.
Source  Statements marked [darknet] come from cfg/yolo9000.cfg, cfg/darknet9000.cfg and src/region_layer.c of
        pjreddie/darknet at f6afaab.

The paper uses "the base YOLOv2 architecture but only 3 priors instead of 5 to limit the output size". Darknet's network
is smaller than that: the 18 convolutions of Darknet-19 and at once the 1 x 1 convolution that predicts. It has neither
YOLOv2's further 3 x 3 x 1024 layers nor the passthrough. Here it is as in Darknet.

    YOLO9000        what yolo9000.weights needs: 9418 nodes, 3 (5 + 9418) = 28,269 outputs per cell
    YOLO9000Tiny    the backbone of the tiny YOLOv2, and at once the 1 x 1 convolution. For laptops
    Darknet19       the classifier of yolov2/darknet19/model.py with one output for each node. Only the tree makes it
                    hierarchical: 1369 nodes in the paper's WordTree1k, 9418 in darknet9000.cfg
    TinyClassifier  the same for the tiny backbone

    python yolov2/yolo9000/model.py     prints the layer table

YOLO9000 has 48,793,101 parameters and 14,400 running averages of BatchNorm, 48,807,501 numbers in all.

What changed from yolov2/model.py: three anchors; no layers between the backbone and the outputs; a softmax for each
group of siblings.
"""
import torch.nn as nn

from shared.layers import print_layer_table
from yolov2.darknet19.model import Darknet19
from yolov2.model import Backbone
from yolov2.model import decode as decode_yolov2
from yolov2.tiny.model import Backbone as TinyBackbone
from yolov2.yolo9000.wordtree import absolute, conditionals

ANCHORS = [(0.77871, 1.14074), (3.00525, 4.31277), (9.22725, 9.61974)]    # cells, yolo9000.cfg [darknet]
NUM_NODES = 9418                                                          # [paper], data/9k.tree


class YOLO9000(nn.Module):
    def __init__(self, num_classes=NUM_NODES, anchors=ANCHORS, backbone=Backbone):
        super().__init__()
        self.num_classes = num_classes                              # the number of nodes in the tree
        self.backbone = backbone()
        self.detect32 = nn.Conv2d(1024, len(anchors) * (5 + num_classes), 1)

        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):                        # N(0, 2 / fan-in); BatchNorm starts at 1 and 0
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")    # [darknet]
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images):
        """
        images   (B, 3, H, W)  0..1; H and W divisible by 32
        returns  the raw head (B, A, H/32, W/32, 5 + n): t_x t_y t_w t_h t_o and an output for each node
        """
        if images.shape[2] % 32 or images.shape[3] % 32:
            raise ValueError(f"YOLO9000 takes images whose sides are divisible by 32, not {tuple(images.shape[2:])}")
        x = self.backbone(images)
        if isinstance(x, tuple):                                    # Darknet-19's also returns the map of stride 16
            x = x[1]                                                # (B, 1024, H/32, W/32)
        head = self.detect32(x)                                     # (B, A (5 + n), H/32, W/32)
        head = head.unflatten(1, (-1, 5 + self.num_classes))        # (B, A, 5 + n, H/32, W/32)
        return head.permute(0, 1, 3, 4, 2)                          # (B, A, H/32, W/32, 5 + n)


class YOLO9000Tiny(YOLO9000):
    def __init__(self, num_classes, anchors=ANCHORS):
        super().__init__(num_classes, anchors, TinyBackbone)


class TinyClassifier(nn.Module):
    """The backbone of YOLO9000Tiny, a 1 x 1 convolution and average pooling, as Darknet-19 ends."""

    def __init__(self, num_classes):
        super().__init__()
        self.backbone = TinyBackbone()
        self.classify = nn.Conv2d(1024, num_classes, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):                        # as above
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images):
        """(B, 3, H, W) 0..1 -> (B, n) an output for each node"""
        return self.classify(self.backbone(images)).mean((2, 3))


def decode(head, tree, anchors=ANCHORS):
    """
    head     (B, A, H, W, 5 + n) as YOLO9000 returns it
    returns  boxes (B, L, 4)       left, top, right, bottom as fractions of the input, in the order anchor, row, column
             objectness (B, L)     Pr(physical object)
             p (B, L, n)           Pr(node | physical object), the product of the conditionals on the node's path
    """
    head = head.float()
    boxes, objectness = decode_yolov2(head[..., :6], anchors)       # the softmax of a single class is 1
    return boxes, objectness[..., 0], absolute(conditionals(head[..., 5:], tree), tree).flatten(1, 3)


NETWORKS = {"YOLO9000": YOLO9000, "YOLO9000Tiny": YOLO9000Tiny}
CLASSIFIERS = {"Darknet19": Darknet19, "TinyClassifier": TinyClassifier}


if __name__ == "__main__":
    print_layer_table(YOLO9000(), height=416, width=416)
