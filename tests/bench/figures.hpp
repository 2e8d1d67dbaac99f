#pragma once

#include <array>
#include <string_view>

#include "tests/bench/bench.hpp"

/// The figures that this project is held to, one function each; RESULTS.md records them.
namespace taskpool::bench {

void apply_same(Report& report);
void apply_free(Report& report);
void apply_async(Report& report);
void map_array(Report& report);
void map_json(Report& report);
void map_uneven(Report& report);
void fairness(Report& report);
void worker_death(Report& report);
void queue_depth(Report& report);
void payload(Report& report);
void idle(Report& report);
void memory_after_tasks(Report& report);
void cold_start(Report& report);
void exec(Report& report);
void python(Report& report);
void store_get(Report& report);
void store_list(Report& report);
void store_recovery(Report& report);
void dict_set(Report& report);
void locks(Report& report);
void list_at_1M(Report& report);
void apply_while_a_dict_grows(Report& report);

struct Figure {
  std::string_view name;
  std::string_view what;
  void (*run)(Report&);
};

inline constexpr std::array kFigures{
    Figure{"apply_same", "round trip of a prepared no-op, all processes on one CPU", &apply_same},
    Figure{"apply_free", "the same, processes placed by the scheduler", &apply_free},
    Figure{"apply_async", "no-ops per second, 1,024 under way", &apply_async},
    Figure{"map_array", "a million integers through square, as an array", &map_array},
    Figure{"map_json", "a million integers through square, as JSON", &map_json},
    Figure{"map_uneven", "2,000 items of very uneven length", &map_uneven},
    Figure{"fairness", "single applies beside another session's large map", &fairness},
    Figure{"worker_death", "a worker killed by signal 9", &worker_death},
    Figure{"queue_depth", "a million queued tasks", &queue_depth},
    Figure{"payload", "arguments of 1 MB and 100 MB", &payload},
    Figure{"idle", "a daemon with nothing to do", &idle},
    Figure{"memory_after_tasks", "the daemon's memory after 10,000,000 tasks", &memory_after_tasks},
    Figure{"cold_start", "from nothing to a first result", &cold_start},
    Figure{"exec", "taskpool map --exec true", &exec},
    Figure{"python", "the Python package beside multiprocessing", &python},
    Figure{"store_get", "look-ups in the store beside a private hash map", &store_get},
    Figure{"store_list", "changes of a list of a million items", &store_list},
    Figure{"store_recovery", "memory and recovery of a million entries", &store_recovery},
    Figure{"dict_set", "writing to a shared dict of 100,000 keys, one by one and many at once", &dict_set},
    Figure{"locks", "a lock of the daemon's, and one in a buffer", &locks},
    Figure{"list_at_1M", "changing a shared list of 1,000,000 items", &list_at_1M},
    Figure{"apply_growth", "single applies while a shared dict grows to 2,000,000 entries", &apply_while_a_dict_grows},
};

}  // namespace taskpool::bench
