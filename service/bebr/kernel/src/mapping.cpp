#include "mapping.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <system_error>

namespace bebr {
namespace {

// One for each mapping. A signal handler walks the list, so nodes are never freed, only used again.
struct Node {
    std::atomic<std::uintptr_t> start{0};
    std::atomic<std::size_t> size{0};
    Node* next = nullptr;
};

std::atomic<Node*> nodes{nullptr};
std::atomic<std::size_t> lost{0};
std::mutex changing;
struct sigaction previous;
std::uintptr_t page_size;

// A page that the file no longer has becomes one of zeros; every other fault is not ours.
void on_bus_error(int number, siginfo_t* info, void* context) {
    const int saved = errno;
    const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
    for (Node* node = nodes.load(std::memory_order_acquire); node; node = node->next) {
        const std::uintptr_t start = node->start.load(std::memory_order_acquire);
        if (!start || address < start || address - start >= node->size.load(std::memory_order_acquire)) continue;
        void* page = reinterpret_cast<void*>(address / page_size * page_size);
        const void* zeros = mmap(page, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (zeros != MAP_FAILED) {
            lost.fetch_add(1, std::memory_order_release);
            errno = saved;
            return;
        }
    }
    errno = saved;
    if (previous.sa_flags & SA_SIGINFO && previous.sa_sigaction) {
        previous.sa_sigaction(number, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(number);
    } else {
        signal(SIGBUS, SIG_DFL);  // the access faults again, and ends the process
    }
}

void install() {
    page_size = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    struct sigaction action = {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &previous);
}

void remember(const void* bytes, std::size_t size) {
    const std::lock_guard<std::mutex> lock(changing);
    static const bool installed = (install(), true);
    (void)installed;
    Node* node = nodes.load();
    while (node && node->start.load()) node = node->next;
    if (!node) {
        node = new Node;
        node->next = nodes.load();
        nodes.store(node, std::memory_order_release);
    }
    node->size.store(size, std::memory_order_release);
    node->start.store(reinterpret_cast<std::uintptr_t>(bytes), std::memory_order_release);
}

void forget(const void* bytes) {
    const std::lock_guard<std::mutex> lock(changing);
    for (Node* node = nodes.load(); node; node = node->next) {
        if (node->start.load() == reinterpret_cast<std::uintptr_t>(bytes)) node->start.store(0);
    }
}

[[noreturn]] void fail(const std::string& path, int error) {
    throw std::system_error(error, std::generic_category(), path);
}

}  // namespace

Mapping map_file(const std::string& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) fail(path, errno);
    struct stat found;
    if (fstat(file, &found) != 0 || found.st_size == 0) {
        const int error = found.st_size == 0 ? EINVAL : errno;
        close(file);
        fail(path, error);
    }
    const auto size = static_cast<std::size_t>(found.st_size);
    void* bytes = mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
    const int error = errno;
    close(file);
    if (bytes == MAP_FAILED) fail(path, error);
    remember(bytes, size);
    return {static_cast<const std::uint8_t*>(bytes), size};
}

void unmap(const Mapping& mapping) {
    forget(mapping.bytes);
    munmap(const_cast<std::uint8_t*>(mapping.bytes), mapping.size);
}

std::size_t lost_pages() { return lost.load(std::memory_order_acquire); }

}  // namespace bebr
