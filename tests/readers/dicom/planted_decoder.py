"""The decoding process with a decoder that misbehaves: `python planted_decoder.py KIND FRAME` in the place of the real one."""

import os
import sys
import time
from pathlib import Path

import medseg.readers.dicom

sys.path.insert(0, str(Path(medseg.readers.dicom.__file__).parent))
import decode_child

KIND, AT = sys.argv[1], sys.argv[2]
sound = decode_child.decode


def decode(path: str, syntax: str, frame: int):
    if not path.endswith(AT):
        return sound(path, syntax, frame)
    if KIND == "crash":
        import ctypes

        ctypes.string_at(0)
    elif KIND == "abort":
        os.abort()
    elif KIND == "hang":
        time.sleep(600)
    elif KIND == "eat":
        return bytearray(4 << 30)
    elif KIND == "leave":
        os._exit(0)
    elif KIND == "print":
        os.write(1, b'{"error": "printed by a library"}\n' * 1000)
    elif KIND == "lie":
        return sound(path, syntax, frame)[:-1]
    elif KIND == "write":
        Path(path).with_name("written").write_bytes(b"x")
    return sound(path, syntax, frame)


decode_child.decode = decode
decode_child.main()
