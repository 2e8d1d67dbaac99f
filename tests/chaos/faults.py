"""What each fault of the schedule does. Returns whether there was somebody to do it to; what has to be ended later is left with
the run."""

import os
import signal
import time

import processes


def _pick(candidates, fault):
    return candidates[fault.pick % len(candidates)] if candidates else None


def _signal(run, fault, victim, number, kind):
    """Sends a signal to (pid, parent)."""
    begin = time.monotonic()
    if victim is None or not processes.send(*victim, number):
        return False
    run.note(kind, begin, 0, f"pid {victim[0]}")
    return True


def _pause(run, fault, victim):
    if victim is None or not processes.send(*victim, signal.SIGSTOP):
        return False
    run.note(fault.kind, time.monotonic(), fault.lasts, f"pid {victim[0]}")
    run.later(time.monotonic() + fault.lasts, lambda: processes.send(victim[0], None, signal.SIGCONT))
    return True


def kill_worker(run, fault):
    return _signal(run, fault, _pick(run.world.workers(), fault), signal.SIGKILL, fault.kind)


def pause_worker(run, fault):
    return _pause(run, fault, _pick(run.world.workers(), fault))


def _zygote(run, fault):
    return _pick([(zygote, run.world.pid) for zygote in run.world.zygotes()], fault)


def kill_zygote(run, fault):
    return _signal(run, fault, _zygote(run, fault), signal.SIGKILL, fault.kind)


def pause_zygote(run, fault):
    return _pause(run, fault, _zygote(run, fault))


def _client(run, fault):
    running = [entry for entry in run.world.running.values() if entry[2] == "calls"]
    return _pick(running, fault)


def kill_client(run, fault):
    found = _client(run, fault)
    if found is None:
        return False
    client, process, _ = found
    if process.poll() is None:
        client.ended = "killed"
        process.kill()
        process.wait()
        run.note(fault.kind, time.monotonic(), 0, f"client {client.number}")
    run.world.reap()
    run.world.start_client(client.language, fault.detail)
    return True


def pause_client(run, fault):
    found = _client(run, fault)
    return found is not None and _pause(run, fault, (found[1].pid, None))


def kill_daemon(run, fault):
    return _end_daemon(run, fault, signal.SIGKILL)


def stop_daemon(run, fault):
    return _end_daemon(run, fault, signal.SIGTERM)


def _end_daemon(run, fault, number):
    if run.is_daemon_away:
        return False
    begin = time.monotonic()
    run.is_daemon_away = True
    process = run.world.process
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)  # a paused one hears of its end
    if number == signal.SIGTERM:
        end = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < end:
            run.end_faults(time.monotonic())  # what is paused has to go on
            time.sleep(0.01)
        if process.poll() is None:
            run.history.leftovers.append(f"the daemon does not stop:\n{run.world.log()[-3000:]}\n{run.world.stack(process.pid)}")
            process.kill()
        elif process.returncode != 0:
            run.history.leftovers.append(f"stopped, the daemon ended with {process.returncode}:\n{run.world.log()[-3000:]}")
    process.wait()
    run.note(fault.kind, begin, time.monotonic() - begin + fault.lasts)

    def back():
        run.world.start()
        run.is_daemon_away = False

    run.later(time.monotonic() + fault.lasts, back)
    return True


def pause_daemon(run, fault):
    return not run.is_daemon_away and _pause(run, fault, (run.world.pid, None))


def reload(run, fault):
    if run.is_daemon_away:
        return False
    run.world.process.send_signal(signal.SIGHUP)
    run.note(fault.kind, time.monotonic(), 0)
    return True


def _once(run, fault, lasts):
    """A program that does it, for so long at most."""
    run.note(fault.kind, time.monotonic(), lasts)
    run.world.start_client("wire", fault.detail, fault.kind)
    return True


def fill_queue(run, fault):
    return _once(run, fault, 20)


def fill_store(run, fault):
    return _once(run, fault, 20)


def break_frames(run, fault):
    return _once(run, fault, 5)


def crowd(run, fault):
    return _once(run, fault, 5)


def starve_daemon(run, fault):
    return not run.is_daemon_away and _starve(run, fault, run.world.pid)


def starve_zygote(run, fault):
    victim = _zygote(run, fault)
    return victim is not None and _starve(run, fault, victim[0])


def _starve(run, fault, pid):
    run.note(fault.kind, time.monotonic(), fault.lasts, f"pid {pid}")
    end = run.world.limit_descriptors(pid, fault.detail % 7)
    run.later(time.monotonic() + fault.lasts, end)
    return os.path.exists(f"/proc/{pid}")


FAULTS = {function.__name__: function for function in (
    kill_worker, pause_worker, kill_zygote, pause_zygote, kill_client, pause_client, kill_daemon, stop_daemon, pause_daemon, reload,
    fill_queue, fill_store, break_frames, crowd, starve_daemon, starve_zygote)}
