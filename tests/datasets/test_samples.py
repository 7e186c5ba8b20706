from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gradslam_ng import RGBDFrames
from gradslam_ng.datasets import FrameError, Samples

K = (30, 30, 15.5, 11.5)


def png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


FORMS = {
    "arrays": lambda color, depth: {"rgb": color, "z": depth},
    "floats": lambda color, depth: {"rgb": (color / 255).astype(np.float32), "z": (depth / 1000).astype(np.float32)},
    "tensors, channels first": lambda color, depth: {
        "rgb": torch.from_numpy(color).permute(2, 0, 1),
        "z": torch.from_numpy(depth.astype(np.float32) / 1000)[None],
    },
    "Pillow, as HuggingFace has them": lambda color, depth: {
        "rgb": Image.fromarray(color),
        "z": Image.fromarray(depth),
    },
    "bytes, as WebDataset has them": lambda color, depth: {"rgb": png(color), "z": png(depth)},
}


@pytest.mark.parametrize("form", FORMS)
def test_images_of_every_form(recordings, form):
    samples = [FORMS[form](recordings.color_image(i), recordings.depth_image(i, 1000)) for i in range(8)]
    sequence = Samples(samples, K=K, color="rgb", depth="z", T_wc=recordings.poses())
    assert len(sequence) == 8 and sequence.size == (24, 32)
    expected = RGBDFrames.from_numpy(recordings.color_image(5), recordings.depth_image(5, 1000), K)
    torch.testing.assert_close(sequence[5].color, expected.color)
    torch.testing.assert_close(sequence[5].depth, expected.depth)
    torch.testing.assert_close(sequence[5].T_wc, recordings.poses()[5])


def test_samples_of_a_torch_dataset_in_a_loader(recordings):
    class Recording(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return {"color": recordings.color_image(index), "depth": recordings.depth_image(index, 5000)}

    sequence = Samples(Recording(), K=K, depth_scale=5000, timestamps=np.arange(4) / 10)
    batch = next(iter(torch.utils.data.DataLoader(sequence.clips(2), batch_size=2)))
    assert batch.shape == (2, 2) and float(batch.depth.max()) < 2


def test_samples_that_do_not_fit(recordings):
    good = {"color": recordings.color_image(0), "depth": recordings.depth_image(0, 1000)}
    with pytest.raises(ValueError, match=r"expected a dict with 'rgb', got \['color', 'depth'\]"):
        Samples([good], K=K, color="rgb")
    with pytest.raises(ValueError, match=r"expected timestamps \(1,\)"):
        Samples([good], K=K, timestamps=[0.0, 1.0])
    with pytest.raises(ValueError, match="expected depth of 16 bit or float"):
        Samples([good | {"depth": np.zeros((24, 32), np.uint8)}], K=K)
    sequence = Samples([good, {"color": b"broken", "depth": b"broken"}], K=K)
    with pytest.raises(FrameError, match="frame 1"):
        sequence[1]
