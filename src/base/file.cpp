#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

namespace kvasir {
namespace {

Error system_error(const std::filesystem::path& path, const char* action,
                   ErrorCode code = ErrorCode::kIo) {
  return Error(code, std::string("cannot ") + action + ": " + std::strerror(errno), path.string());
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int operator*() const { return number_; }

 private:
  int number_;
};

struct OpenFile {
  Descriptor descriptor;
  bool is_regular = false;
  size_t size = 0;  // of a regular file
};

Result<OpenFile> open_for_reading(const std::filesystem::path& path) {
  Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (*descriptor < 0)
    return system_error(path, "open", errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo);
  struct stat status{};
  if (::fstat(*descriptor, &status) != 0) return system_error(path, "inspect");
  if (S_ISDIR(status.st_mode))
    return Error(ErrorCode::kInvalidArgument, "expected a file, found a directory", path.string());
  const bool is_regular = S_ISREG(status.st_mode);
  return OpenFile{.descriptor = std::move(descriptor),
                  .is_regular = is_regular,
                  .size = is_regular ? static_cast<size_t>(status.st_size) : 0};
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  auto opened = open_for_reading(path);
  if (!opened) return opened.error();
  const OpenFile& file = opened.value();
  if (!file.is_regular)
    return Error(ErrorCode::kInvalidArgument, "expected a regular file, found a device or pipe",
                 path.string());
  if (file.size == 0) return MappedFile(nullptr, 0);
  void* data = ::mmap(nullptr, file.size, PROT_READ, MAP_PRIVATE, *file.descriptor, 0);
  if (data == MAP_FAILED) return system_error(path, "map");
  return MappedFile(static_cast<const std::byte*>(data), file.size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::drop(size_t begin, size_t size) const {
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t first = (begin + page - 1) / page * page;
  const size_t last = (begin + size) / page * page;
  if (last > first) ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
}

namespace {

Result<std::string> read_to_end(int descriptor, size_t expected,
                                const std::filesystem::path& name) {
  // One byte more than expected, so that the end is seen without growing.
  std::string content(expected + 1, '\0');
  size_t done = 0;
  while (true) {
    if (done == content.size()) content.resize(2 * done);
    const ssize_t got = ::read(descriptor, content.data() + done, content.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(name, "read");
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  content.resize(done);
  return content;
}

constexpr size_t kPipeBytes = size_t{1} << 16;

}  // namespace

Result<std::string> read_file(const std::filesystem::path& path) {
  auto opened = open_for_reading(path);
  if (!opened) return opened.error();
  const OpenFile& file = opened.value();
  return read_to_end(*file.descriptor, file.is_regular ? file.size : kPipeBytes, path);
}

Result<std::string> read_standard_input() {
  return read_to_end(STDIN_FILENO, kPipeBytes, "standard input");
}

Result<AtomicFile> AtomicFile::create(const std::filesystem::path& path) {
  static std::atomic<unsigned> counter{0};
  // A rename would put a file in a device's place, and fail on a directory only after all the work.
  struct stat status{};
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode))
    return Error(ErrorCode::kInvalidArgument,
                 "expected a regular file or a new name to write to, found a directory or device",
                 path.string());
  AtomicFile file;
  file.path_ = path;
  file.temporary_ = path;
  file.temporary_ +=
      ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter.fetch_add(1));
  file.descriptor_ = ::open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file.descriptor_ < 0) {
    const Error error = system_error(path, "write");
    file.temporary_.clear();
    return error;
  }
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<void> AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(descriptor_, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_error(path_, "write");
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return {};
}

Result<void> AtomicFile::write(std::string_view text) {
  return write(std::as_bytes(std::span(text.data(), text.size())));
}

Result<void> AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) return system_error(path_, "sync");
  if (::close(std::exchange(descriptor_, -1)) != 0) return system_error(path_, "close");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return system_error(path_, "replace");
  temporary_.clear();
  return {};
}

Result<void> write_file(const std::filesystem::path& path, std::string_view content) {
  auto file = AtomicFile::create(path);
  if (!file) return file.error();
  if (auto written = file.value().write(content); !written) return written;
  return file.value().commit();
}

}  // namespace kvasir
