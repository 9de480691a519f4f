"""serve ADDRESS | client ADDRESS STREAMS FRAMES: a gRPC method that sends back each frame of a stream, and clients that compare them."""
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

METHOD = "/test.Echo/Exchange"


def serve(address):
    def exchange(frames, context):
        yield from frames

    handler = grpc.method_handlers_generic_handler("test.Echo", {"Exchange": grpc.stream_stream_rpc_method_handler(exchange)})
    server = grpc.server(ThreadPoolExecutor(16), handlers=[handler])
    if server.add_insecure_port(address) == 0:
        sys.exit("cannot listen at " + address)
    server.start()
    server.wait_for_termination()


def stream(channel, number, frames):
    chance = random.Random(number)
    sent = [chance.randbytes(chance.choice((1, 100, 5_000, 60_000)) + chance.randrange(100)) for _ in range(frames)]
    count = 0
    for frame, answer in zip(sent, channel.stream_stream(METHOD)(iter(sent), timeout=120), strict=True):
        if frame != answer:
            sys.exit(f"stream {number}, frame {count}: sent {len(frame)} bytes and got others, {len(answer)}")
        count += 1
    return count


def client(address, streams, frames):
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel, ThreadPoolExecutor(streams) as threads:
        print("frames", sum(threads.map(lambda number: stream(channel, number, frames), range(streams))))


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    client(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
