#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/model/protocol.hpp"

namespace taskpool::model {

/// One operation of the writer.
struct Step {
  enum class Kind : std::uint8_t { create, remove, put, grow, list };
  Kind kind = Kind::put;
  Word object = 0;
  Word id = 0;                    ///< create
  Word slots = 0;                 ///< create, grow
  std::vector<Writer::Put> puts;  ///< put: all or nothing
  std::vector<Word> values;       ///< list: what it then holds
};

/// One operation of a reader.
struct Read {
  enum class Kind : std::uint8_t { get, get_many, list };
  Kind kind = Kind::get;
  Word object = 0;
  Word id = 0;
  std::vector<Word> keys;
};

/// A small case: `before` is known to everybody, then the writer performs `steps` while readers read.
struct Scenario {
  std::string name;
  Writer::Blocks blocks;
  std::vector<Step> before;
  std::vector<Step> steps;
  std::vector<std::vector<Read>> readers;  ///< Each does its reads one after the other.
};

std::vector<Scenario> scenarios();

struct Explored {
  std::size_t crashes = 0;     ///< states in which the writer was killed
  std::size_t histories = 0;   ///< sequences of stores, with and without a crash, that readers were run against
  std::size_t executions = 0;  ///< of readers
};

/// Explores the scenario whole. Throws Violation.
Explored check(const Scenario& scenario, Bug bug);

}  // namespace taskpool::model
