"""For SGLang's server on a machine without a GPU: declares what the CUDA build of torchvision cannot register there.

Python imports this module at its start where the folder is on PYTHONPATH. The wheel's compiled part is linked to CUDA
and does not load; importing torchvision then fails because two operators have no schema. Declaring them is enough, for
a language model calls neither.
"""

import importlib.abc
import sys


class _BeforeTorchvision(importlib.abc.MetaPathFinder):
    """Declares the operators at the moment torchvision is first imported."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                self.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            # Declarations last only as long as the library object.
            sys.modules[__name__].finder = self
        return None


sys.meta_path.insert(0, _BeforeTorchvision())
