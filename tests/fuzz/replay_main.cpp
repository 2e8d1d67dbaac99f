/// The main() of a fuzz target without a fuzzer: runs it once on every file below the directories (or on the files)
/// that its arguments name. What it finds wrong aborts.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

bool replay(const std::filesystem::path& path) {
  std::ifstream file{path, std::ios::binary};
  const std::vector<char> bytes{std::istreambuf_iterator<char>{file}, {}};
  if (!file) {
    std::fprintf(stderr, "%s: cannot be read\n", path.c_str());
    return false;
  }
  std::printf("%s: %zu bytes\n", path.filename().c_str(), bytes.size());
  std::fflush(stdout);  // so that the last line names the file that aborted
  (void)LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  int replayed = 0;
  bool good = true;
  for (int index = 1; index < argc; ++index) {
    const std::filesystem::path path{argv[index]};
    if (!std::filesystem::is_directory(path)) {
      good &= replay(path);
      ++replayed;
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator{path})
      if (entry.is_regular_file()) {
        good &= replay(entry.path());
        ++replayed;
      }
  }
  std::printf("%d inputs\n", replayed);
  return good && replayed > 0 ? 0 : 1;
}
