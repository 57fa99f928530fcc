"""TensorBoard's event files of a run: the same values as metrics.jsonl, pictures that decode, and one history after a resume. A
small reader of the format here reads them, and TensorBoard's own reader if it is installed."""
import os
import struct
import zlib

import runs
from runs import CONFIG, RunTest

CONFIG_ON = CONFIG + "log: {tensorboard: true}\n"
TAGS = {"train/loss": "loss", "train/lr": "lr", "train/img_s": "img_s", "train/data_wait": "data_wait"}


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def check_crc(data, stored):
    crc = crc32c(data)
    if ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF != struct.unpack("<I", stored)[0]:
        raise ValueError("checksum")


def records(path):
    with open(path, "rb") as file:
        data = file.read()
    at = 0
    while at < len(data):
        length = struct.unpack("<Q", data[at:at + 8])[0]
        check_crc(data[at:at + 8], data[at + 8:at + 12])
        body = data[at + 12:at + 12 + length]
        check_crc(body, data[at + 12 + length:at + 16 + length])
        yield body
        at += 16 + length


def fields(message):
    """Decodes a protocol buffer message: field number -> list of values, ints or bytes."""
    out, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            value = varint()
        else:
            length = {1: 8, 5: 4}.get(key & 7) or varint()
            value = message[at:at + length]
            at += length
            assert len(value) == length
        out.setdefault(key >> 3, []).append(value)
    return out


def read_events(folder):
    """Reads all files in order. Returns scalars and pictures as tag -> {step: value}, without the steps that a restart repeats, and
    the number of files."""
    scalars, pictures = {}, {}
    names = sorted(name for name in os.listdir(folder) if "tfevents" in name)
    for name in names:
        for i, record in enumerate(records(os.path.join(folder, name))):
            event = fields(record)
            assert struct.unpack("<d", event[1][0])[0] > 1.7e9  # seconds since 1970
            step = event[2][0]
            if i == 0:
                assert event[3] == [b"brain.Event:2"], event
            elif 7 in event:
                assert fields(event[7][0]) == {1: [1]}
                for series in [*scalars.values(), *pictures.values()]:
                    for old in [s for s in series if s >= step]:
                        del series[old]
            else:
                for value in map(fields, fields(event[5][0])[1]):
                    tag = value[1][0].decode()
                    if 2 in value:
                        scalars.setdefault(tag, {})[step] = struct.unpack("<f", value[2][0])[0]
                    else:
                        pictures.setdefault(tag, {})[step] = fields(value[4][0])
    return scalars, pictures, names


class TensorBoard(RunTest):
    def test_reader(self):
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)  # the check value of CRC-32C

    def assert_same_as_metrics(self, run, scalars):
        """Compares up to the last bit: metrics.jsonl has nine digits of a double, which may round to the neighbouring float."""
        last = {m["step"]: m for m in self.metrics(run, "step")}
        for tag, key in TAGS.items():
            self.assertEqual(set(scalars[tag]), set(last), tag)
            for step, m in last.items():
                self.assertAlmostEqual(scalars[tag][step], m[key], delta=1.2e-7 * abs(m[key]), msg=(tag, step))
        for key in ("loss", "top1", "top5"):
            tag, evals = "eval/" + key, self.metrics(run, "eval")
            self.assertEqual(set(scalars[tag]), {m["step"] for m in evals}, key)
            for m in evals:
                self.assertAlmostEqual(scalars[tag][m["step"]], m[key], delta=1.2e-7 * abs(m[key]), msg=(tag, m["step"]))

    def check_with_theirs(self, folder, scalars, pictures):
        try:
            from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        except ImportError as error:
            print(f"not compared with TensorBoard's own reader: {error}")
            return
        theirs = EventAccumulator(folder, {"scalars": 0, "images": 0}).Reload()
        self.assertEqual(set(theirs.Tags()["scalars"]), set(scalars))
        for tag, series in scalars.items():
            self.assertEqual({e.step: e.value for e in theirs.Scalars(tag)}, series)
            self.assertEqual([e.step for e in theirs.Scalars(tag)], sorted(series))
        self.assertEqual(set(theirs.Tags()["images"]), set(pictures))
        for tag, series in pictures.items():
            for image in theirs.Images(tag):
                ours = series[image.step]
                self.assertEqual((image.height, image.width, image.encoded_image_string), (ours[1][0], ours[2][0], ours[4][0]))
        print(f"TensorBoard's own reader: {len(scalars)} scalars, {len(pictures)} pictures, the same")

    def test_scalars_and_pictures(self):
        plain = self.config("plain", CONFIG.replace("sdnet18", "sdnet18-all"))
        self.train(plain)
        shown = self.config("shown", CONFIG_ON.replace("sdnet18", "sdnet18-all"))
        self.train(shown, "log.pictures_every_epochs=2")
        self.assertEqual(self.losses("plain"), self.losses("shown"))  # pictures change no result
        scalars, pictures, names = read_events(self.path("shown"))
        self.assertEqual(len(names), 1)
        self.assert_same_as_metrics("shown", scalars)
        backs = {"images/back from layer0.0"} | {f"images/back from layer{s}.layers.1.conv2" for s in (1, 2, 3, 4)}
        atoms = {f"atoms/layer{s}.layers.{b}.conv{c}" for s in (1, 2, 3, 4) for b in (0, 1) for c in (1, 2)} | {"atoms/layer0.0"}
        self.assertEqual(set(pictures), {"images/input"} | backs | atoms)
        for tag, series in pictures.items():
            self.assertEqual(list(series), [10], tag)  # five steps an epoch, twelve in all
            height, width, colours, png = (series[10][i][0] for i in (1, 2, 3, 4))
            self.assertEqual((png[:8], struct.unpack(">II", png[16:24]), colours), (b"\x89PNG\r\n\x1a\n", (width, height), 3), tag)
            at = png.index(b"IDAT")
            self.assertEqual(zlib.crc32(png[at:at + 4 + struct.unpack(">I", png[at - 4:at])[0]]),
                             struct.unpack(">I", png[at + 4 + struct.unpack(">I", png[at - 4:at])[0]:][:4])[0])
        self.check_with_theirs(self.path("shown"), scalars, pictures)

    def test_resume(self):
        """After a resume from an older checkpoint, the events of the steps after it are replaced."""
        config = self.config("back", CONFIG_ON)
        self.train(config, "checkpoint.every_steps=4", "eval.every_epochs=1")
        first, _, _ = read_events(self.path("back"))
        self.train(config, "checkpoint.every_steps=4", "eval.every_epochs=1", "run.log_every=2",
                   "--resume=" + self.path("back", "checkpoints", "step-00000004"))
        scalars, pictures, names = read_events(self.path("back"))
        self.assertEqual(len(names), 2)
        self.assertEqual(sorted(scalars["train/loss"]), [1, 2, 3, 4, 6, 8, 10, 12])
        self.assertEqual([scalars["train/loss"][s] for s in (1, 2, 3, 4)], [first["train/loss"][s] for s in (1, 2, 3, 4)])
        self.assertEqual(sorted(scalars["eval/top1"]), sorted(first["eval/top1"]))
        self.check_with_theirs(self.path("back"), scalars, pictures)

    def test_off(self):
        self.train(self.config("off"), "train.steps=2")
        self.assertFalse([name for name in os.listdir(self.path("off")) if "tfevents" in name])


if __name__ == "__main__":
    runs.main()
