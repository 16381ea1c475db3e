"""Where there is no accelerator, seeding torch costs nothing for one.

At each call of ``torch.manual_seed`` torch keeps the stack of the call as text, for an accelerator that may come later.
Under pytest these are sixty frames, and take a millisecond, many times what the seeding does.
"""

import torch

for accelerator in (torch.cuda, torch.xpu, torch.mtia):
    if not accelerator.is_available():
        accelerator.manual_seed_all = lambda seed: None
