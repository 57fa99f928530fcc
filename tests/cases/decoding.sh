# shellcheck shell=bash
# Images as people have them: damaged, odd, larger than memory.

# limited COMMAND...: with 200 MB of address space.
limited() {
    (ulimit -v 200000 && exec "$@")
}

# Memory that ends inside libjpeg is 71, and the sound image is not left out.
case_D5() {
    ! grep -q __asan_init "$PACK" || skip "a sanitizer needs more memory"
    mkdir -p d/a
    /usr/bin/python3 -c "
from PIL import Image
Image.linear_gradient('L').resize((6000, 6000)).convert('RGB').save('d/a/big.jpg', progressive=True)
Image.new('RGB', (8, 8)).save('d/a/0.png')"
    expect 71 limited "$PACK" imagefolder d set --workers 1 --bad skip
    says "Insufficient memory"
    silent_about "left out"
    silent_about "--bad"
    expect 71 limited "$PACK" imagefolder d set2 --workers 1
    silent_about "--bad"
    expect 0 "$PACK" imagefolder d set --workers 1 --bad skip
    says "2 images of 1 classes"
}

# A stray marker in a scan: libjpeg decodes what is before it and makes the rest grey.
case_D6() {
    mkdir -p d/a e/a
    /usr/bin/python3 -c '
import io
from PIL import Image
b = io.BytesIO()
Image.radial_gradient("L").resize((400, 300)).convert("RGB").save(b, "JPEG", quality=95)
d = b.getvalue()
at = d.index(b"\xff\xda") + 14
at += (len(d) - at) // 4
for name, marker in ("a4", 0xA4), ("80", 0x80), ("c0", 0xC0), ("dd", 0xDD):
    open(f"d/a/{name}.jpg", "wb").write(d[:at] + bytes([255, marker]) + d[at + 2:])
    try:
        Image.open(f"d/a/{name}.jpg").convert("RGB")
        raise SystemExit(f"Pillow takes {name}")
    except OSError:
        pass
open("e/a/text.jpg", "wb").write(d[:-2] + b"text where the end marker was")
Image.open("e/a/text.jpg").convert("RGB")'
    for name in a4 80 c0 dd; do
        mkdir -p "only-$name/a"
        cp "d/a/$name.jpg" "only-$name/a"
        expect 65 "$PACK" imagefolder "only-$name" "set-$name"
        says "a/$name.jpg: JPEG:"
    done
    expect 0 "$PACK" imagefolder e set
}

# Smaller windows than the data need, as in the INRIA Person dataset.
case_D9() {
    mkdir -p d/a
    /usr/bin/python3 -c '
import random, struct, zlib
from PIL import Image
r = random.Random(1)
c = lambda k, d: struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))
z = bytearray(zlib.compress(b"".join(b"\0" + x for x in [r.randbytes(600) for _ in range(20)] * 10), 9))
z[0] = 8
z[1] = 31 - z[0] * 256 % 31
open("d/a/x.png", "wb").write(b"\x89PNG\r\n\x1a\n" + c(b"IHDR", struct.pack(">IIBBBBB", 200, 200, 8, 2, 0, 0, 0)) +
                              c(b"IDAT", bytes(z)) + c(b"IEND", b""))
open("pixels", "wb").write(Image.open("d/a/x.png").convert("RGB").tobytes())'
    expect 0 "$PACK" imagefolder d set
    PYTHONPATH=$ROOT/scripts /usr/bin/python3 -c "
import csz
assert csz.read_dataset('set')[1][0][3] == open('pixels', 'rb').read()"
}

# Crops of a progressive JPEG whose later scans are missing: decode-images compares windows with the whole.
case_D12() {
    [ -x "$BUILD/tests/data/image/decode-images" ] || skip "no tests are built"
    /usr/bin/python3 - "$BUILD/tests/data/image/decode-images" <<'PYTHON'
import io, random, struct, subprocess, sys
from PIL import Image
r = random.Random(7)
for i in range(7):
    b = io.BytesIO()
    Image.frombytes("RGB", (40, 30), r.randbytes(3600)).resize((200, 150), Image.BICUBIC).save(b, "JPEG", quality=85,
                                                                                            progressive=True)
    d = b.getvalue()
    s = [i for i in range(len(d) - 1) if d[i:i + 2] == b"\xff\xda"]
    d = d[:d.rfind(b"\xff\xc4", s[1], s[2])] + b"\xff\xd9"
    out = subprocess.run(sys.argv[1], input=struct.pack("<I", len(d)) + d, stdout=subprocess.PIPE, check=True).stdout
    assert out[:4] == bytes(4), out[:300]
    assert out[12:] == Image.open(io.BytesIO(d)).convert("RGB").tobytes()
PYTHON
}

# What is too large says what is not.
case_D23() {
    mkdir -p d/a e/a
    /usr/bin/python3 -c "
from PIL import Image
Image.new('L', (12000, 11500)).save('d/a/g.png')
Image.new('RGB', (70000, 1)).save('e/a/g.png')"
    expect 65 "$PACK" imagefolder d set --resize short:256
    says "a/g.png: image of 12000 x 11500 pixels; at most 65500 a side and 134217728 in all"
    expect 65 "$PACK" imagefolder e set
    says "a/g.png: image of 70000 x 1 pixels; at most 65500 a side and 134217728 in all"
}

# WebP: Pillow's pixels; under --codec jpeg, JPEGs that crops are taken from. Animations are refused by that name.
case_webp() {
    /usr/bin/python3 -c "from PIL import features; raise SystemExit(not features.check('webp_anim'))" || skip "Pillow has no WebP"
    mkdir -p d/a e/a f/a
    /usr/bin/python3 -c "
from PIL import Image
r = Image.radial_gradient('L').convert('RGB')
for name, options in ('lossy', {}), ('exact', {'lossless': True}):
    r.save(f'd/a/{name}.webp', **options)
r.save('e/a/moves.webp', save_all=True, append_images=[Image.new('RGB', r.size)])
r.save('f/a/photo.gif')
for name in 'exact', 'lossy':
    open(f'{name}.rgb', 'wb').write(Image.open(f'd/a/{name}.webp').convert('RGB').tobytes())"
    "$PACK" imagefolder d set >log 2>&1 || { grep "built without" log && skip "no libwebp"; cat log; false; }
    PYTHONPATH=$ROOT/scripts /usr/bin/python3 -c "
import csz
for sample, name in zip(csz.read_dataset('set')[1], ('exact', 'lossy')):
    assert sample[3] == open(f'{name}.rgb', 'rb').read(), name"
    expect 0 "$PACK" imagefolder d jpegs --codec jpeg
    says "2 images: WebP, stored as a JPEG of quality 90"
    expect 0 "$PACK" verify jpegs --deep
    expect 65 "$PACK" imagefolder e set2
    says "a/moves.webp: an animated WebP"
    expect 65 "$PACK" imagefolder f set3
    says "a/photo.gif: a GIF; JPEG, PNG and WebP are read"
}
