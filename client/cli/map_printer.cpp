#include "client/cli/map_printer.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "client/cli/command_result.hpp"
#include "client/cli/session.hpp"

namespace taskpool::cli {

void MapPrinter::take(const Outcome& outcome) {
  if (outcome.ok()) {
    result(outcome.index, outcome.value);
    return;
  }
  const auto& error = *outcome.error;
  report(outcome.index,
         fmt::format("{}: {}{}{}", name(error.code), error.type, error.type.empty() ? "" : ": ", error.detail));
  failure(error);
}

void MapPrinter::report(std::uint64_t index, std::string_view what) {
  ++failed_;
  (void)out_.flush();  // an error of it is seen by whoever writes next
  complain(fmt::format("item {}: {}", index, what));
}

void ResultPrinter::result(std::uint64_t index, const Item& value) {
  auto text = render(value, style_.format);
  if (text && is_array(value.encoding)) *text = text->substr(1, text->size() - 2);  // of a map: an element of one
  if (!text) {
    const ErrorHead error{.code = text.error().errc(), .detail = text.error().detail};
    report(index, fmt::format("{}: {}", name(error.code), error.detail));
    failure(error);
    return;
  }
  if (style_.of_commands)
    if (const auto command = read_command_result(*text); command && command->failed()) count_failure();
  show(*text);
}

void ResultPrinter::failure(const ErrorHead& error) {
  if (style_.show_errors) {
    show(error_json(error).dump());
  } else {
    show(style_.format == Format::text && !style_.as_list ? "" : "null");
  }
}

void ResultPrinter::show(std::string_view text) {
  if (style_.as_list) {
    list_ += list_.empty() ? "[" : ", ";
    list_ += text;
  } else {
    (void)out().write(text);  // errors stay with the writer
    (void)out().write("\n");
  }
}

void ResultPrinter::finish() {
  if (style_.as_list) (void)out().write((list_.empty() ? "[" : list_) + "]\n");
}

void CommandPrinter::result(std::uint64_t index, const Item& value) {
  const auto command = value.encoding == Encoding::json
                           ? read_command_result(as_text(value.bytes))
                           : Result<CommandResult>{fail(Errc::bad_message, "not a command's result")};
  if (!command) {
    report(index, fmt::format("{}: {}", name(command.error().errc()), command.error().detail));
    return;
  }
  (void)out().write(command->stdout_bytes);
  if (!command->stderr_bytes.empty()) {
    (void)out().flush();  // so that both come in order where they go to the same place
    Writer err{STDERR_FILENO};
    (void)err.write(command->stderr_bytes);
    (void)err.flush();
  }
  if (command->truncated) complain(fmt::format("item {}: its output was too long and is cut", index));
  if (command->signal != 0) {
    report(index, describe_end(*command));
  } else if (command->exit_code != 0) {
    count_failure();  // what went wrong it has said itself
  }
}

}  // namespace taskpool::cli
