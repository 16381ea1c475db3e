"""Images that are cropped at random each time that they are read, by a DataLoader with two workers.

The command is ``thalweg compare augmented.py:task --strategies adam,momentum@cosine``.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

import thalweg


class Digits(Dataset):
    def __init__(self, start, stop, augment=False):
        images, digits = load_digits(return_X_y=True)
        self.images = torch.tensor(images[start:stop] / 16, dtype=torch.float32).view(-1, 1, 8, 8)
        self.digits = torch.tensor(digits[start:stop])
        self.augment = augment

    def __len__(self):
        return len(self.digits)

    def __getitem__(self, i):
        image = self.images[i]
        if self.augment:
            top, left = torch.randint(3, (2,)).tolist()
            image = nn.functional.pad(image, (1, 1, 1, 1))[:, top : top + 8, left : left + 8]
        return image, self.digits[i]


def model():
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 16, 10))


def task():
    train = DataLoader(Digits(0, 1000, augment=True), batch_size=50, shuffle=True, num_workers=2)
    loss = nn.functional.cross_entropy
    return thalweg.Task(model, train, Digits(1000, 1300), Digits(1300, 1797), loss, name="augmented", steps=100)
