#include "daemon/store/domain.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

namespace taskpool::store {
namespace {

std::uint64_t random_seed() {
  std::uint64_t seed = 0;
  if (::getrandom(&seed, sizeof seed, 0) != static_cast<ssize_t>(sizeof seed))
    seed = boot_time_ns() * 0x9e3779b97f4a7c15u ^ static_cast<std::uint64_t>(::getpid());
  return seed;
}

}  // namespace

std::string domain_text(DomainKey key) { return fmt::format("{}:{}", key.is_group ? "gid" : "uid", key.number); }

std::string object_text(DomainKey key, ObjectId id) {
  return fmt::format("{}{}-{}", key.is_group ? 'g' : 'u', key.number, static_cast<std::uint64_t>(id));
}

std::optional<std::pair<DomainKey, ObjectId>> parse_object_text(std::string_view text) {
  const auto dash = text.find('-');
  if (text.empty() || dash == text.npos || (text[0] != 'u' && text[0] != 'g')) return std::nullopt;
  DomainKey key{text[0] == 'g', 0};
  std::uint64_t id = 0;
  const auto* const end = text.data() + text.size();
  const auto number = std::from_chars(text.data() + 1, text.data() + dash, key.number);
  const auto rest = std::from_chars(text.data() + dash + 1, end, id);
  if (number.ec != std::errc{} || number.ptr != text.data() + dash || rest.ec != std::errc{} || rest.ptr != end)
    return std::nullopt;
  return std::pair{key, ObjectId{id}};
}

std::uint64_t boot_time_ns() {
  ::timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

Domain::Domain(DomainKey key, os::UniqueFd file, os::UniqueFd read_only, std::byte* memory, std::size_t size)
    : key_{key}, file_{std::move(file)}, read_only_{std::move(read_only)}, memory_{memory}, size_{size} {}

Domain::~Domain() {
  reader_.reset();
  writer_.reset();
  ::munmap(memory_, size_);
}

Result<std::unique_ptr<Domain>> Domain::map(os::UniqueFd file, const std::string& path, DomainKey key,
                                            std::size_t size) {
  // Clients get a description of their own, opened for reading: theirs cannot be mapped for writing.
  os::UniqueFd read_only{::open(fmt::format("/proc/self/fd/{}", file.get()).c_str(), O_RDONLY | O_CLOEXEC)};
  if (read_only.get() < 0) return errno_error(path);
  void* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) return errno_error(path);
  return std::unique_ptr<Domain>{
      new Domain{key, std::move(file), std::move(read_only), static_cast<std::byte*>(memory), size}};
}

Extend Domain::extend() {
  return [this](std::size_t bytes) -> Result<void> {
    if (bytes <= allocated_) return {};
    if (bytes > most_)
      return fail(Errc::store_full, fmt::format("{}: {} has {} bytes", rule_, domain_text(key_), allocated_));
    int failed = 0;
    do failed = ::fallocate(file_.get(), 0, static_cast<off_t>(allocated_), static_cast<off_t>(bytes - allocated_));
    while (failed != 0 && errno == EINTR);
    if (failed != 0) return errno_error(domain_text(key_));
    allocated_ = bytes;
    return {};
  };
}

void Domain::read_no_further() { (void)::madvise(memory_, size_, MADV_RANDOM); }  // only advice

Result<void> Domain::open_reader() {
  auto reader = Segment::open({memory_, size_}, &boot_time_ns);
  if (!reader) return reader.error();
  reader_.emplace(std::move(*reader));
  return {};
}

Result<std::unique_ptr<Domain>> Domain::create(const std::string& path, DomainKey key, std::size_t bytes) {
  // Under another name until it is a segment: a daemon that dies in between leaves nothing that looks damaged.
  const auto unfinished = path + ".new";
  (void)::unlink(unfinished.c_str());
  os::UniqueFd file{::open(unfinished.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (file.get() < 0) return errno_error(unfinished);
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) return errno_error(unfinished);
  auto domain = map(std::move(file), path, key, bytes);
  if (!domain) return domain;
  auto& made = **domain;
  auto writer = Writer::create({made.memory_, bytes}, made.extend(),
                               {.owner_uid = ::getuid(), .domain = domain_text(key), .seed = random_seed()});
  if (!writer) {
    (void)::unlink(unfinished.c_str());
    return writer.error();
  }
  made.writer_.emplace(std::move(*writer));
  made.read_no_further();
  if (const auto done = made.open_reader(); !done) return done.error();
  if (::rename(unfinished.c_str(), path.c_str()) != 0) return errno_error(path);
  return domain;
}

Result<std::unique_ptr<Domain>> Domain::open(const std::string& path, DomainKey key,
                                             std::vector<std::string>& messages) {
  os::UniqueFd file{::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW)};
  if (file.get() < 0) return errno_error(path);
  struct ::stat about {};
  if (::fstat(file.get(), &about) != 0) return errno_error(path);
  const auto bytes = static_cast<std::size_t>(about.st_size);
  if (!S_ISREG(about.st_mode) || about.st_uid != ::geteuid() || (about.st_mode & 077) != 0)
    return fail(Errc::bad_segment, path + ": not a file of this user alone");
  if (bytes < kMinSegmentBytes || bytes > store::kMaxSegmentBytes || bytes % kUnitBytes != 0)
    return fail(Errc::bad_segment, fmt::format("{}: {} bytes", path, bytes));
  auto domain = map(std::move(file), path, key, bytes);
  if (!domain) return domain;
  auto& made = **domain;
  auto recovered = recover({made.memory_, bytes}, made.extend());
  if (!recovered) return recovered.error();
  messages = std::move(recovered->messages);
  made.writer_.emplace(std::move(recovered->writer));
  made.read_no_further();
  if (const auto done = made.open_reader(); !done) return done.error();
  if (made.reader_->domain() != domain_text(key))
    return fail(Errc::bad_segment, fmt::format("{}: it is that of {}", path, made.reader_->domain()));
  return domain;
}

}  // namespace taskpool::store
