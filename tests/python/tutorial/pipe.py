"""Two processes talk over pipes: one of both directions, one of one."""

from taskpool import Pipe, Process


def answer(connection):
    while (question := connection.recv()) is not None:
        connection.send(question.upper())
    connection.close()


def produce(writer, count):
    for number in range(count):
        writer.send([number, number * number])
    writer.close()


def consume(reader, answers):
    total = 0
    while True:
        try:
            _, square = reader.recv()
        except EOFError:
            break
        total += square
    answers.send(total)


if __name__ == "__main__":
    ours, theirs = Pipe()
    parrot = Process(target=answer, args=(theirs,))
    parrot.start()
    theirs.close()
    for word in ("duplex", "pipe"):
        ours.send(word)
        print(ours.recv())
    ours.send(None)
    parrot.join()
    try:
        ours.recv()
    except EOFError:
        print("closed")

    reader, writer = Pipe(duplex=False)
    result, answers = Pipe(duplex=False)
    producer = Process(target=produce, args=(writer, 5))
    consumer = Process(target=consume, args=(reader, answers))
    producer.start()
    consumer.start()
    writer.close()
    reader.close()
    print(result.recv())
    producer.join()
    consumer.join()
