#include <string>
#include <taskpool/module.hpp>

namespace {

std::string greet(const std::string& name, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += "hello " + name + "\n";
  return text;
}

}  // namespace

TASKPOOL_MODULE(m, "greetings") { m.def("greet", &greet, "Greets somebody some times.", {"name", "times"}); }
