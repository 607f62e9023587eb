// A client that costs next to nothing: prebuilt requests over kept-alive connections, one request each under way.
//
//     client PORT CONNECTIONS SECONDS MOST < requests > seconds of each request, as float64
//
// Requests come as a 4-byte length and the bytes, each. Any status but 200 ends it with 1.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

namespace {

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Connection {
    int socket = -1;
    double sent_at = 0;
    std::string received;

    explicit Connection(int port) : socket(::socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        const int on = 1;
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) std::exit(2);
    }

    void send(const std::string& request) {
        received.clear();
        sent_at = now();
        for (std::size_t sent = 0; sent < request.size();) {
            const ssize_t count = ::send(socket, request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
            if (count <= 0) std::exit(3);
            sent += static_cast<std::size_t>(count);
        }
    }

    // True when the whole answer is there.
    bool receive() {
        char buffer[1 << 16];
        const ssize_t count = recv(socket, buffer, sizeof buffer, 0);
        if (count <= 0) std::exit(4);
        received.append(buffer, static_cast<std::size_t>(count));
        const std::size_t end = received.find("\r\n\r\n");
        if (end == std::string::npos) return false;
        if (received.compare(0, 12, "HTTP/1.1 200") != 0) {
            std::cerr << received.substr(0, 2000) << '\n';
            std::exit(1);
        }
        const char* length = strcasestr(received.c_str(), "\r\ncontent-length:");
        if (length == nullptr || length > received.c_str() + end) std::exit(5);
        return received.size() >= end + 4 + std::strtoul(length + 17, nullptr, 10);
    }
};

}  // namespace

int main(int count, char** arguments) {
    if (count != 5) return 6;
    const int port = std::atoi(arguments[1]);
    const double seconds = std::atof(arguments[3]);
    const std::size_t most = std::strtoull(arguments[4], nullptr, 10);
    const std::string input{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
    std::vector<std::string> requests;
    for (std::size_t at = 0; at + 4 <= input.size();) {
        std::uint32_t size;
        std::memcpy(&size, input.data() + at, 4);
        requests.push_back(input.substr(at + 4, size));
        at += 4 + size;
    }
    std::vector<Connection> connections;
    for (int i = 0; i < std::atoi(arguments[2]); ++i) connections.emplace_back(port);
    const int poll = epoll_create1(0);
    std::vector<double> latencies;
    std::size_t sent = 0, waiting = 0;
    const double started = now();
    for (std::size_t i = 0; i < connections.size() && sent < most; ++i, ++waiting) {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u64 = i;
        epoll_ctl(poll, EPOLL_CTL_ADD, connections[i].socket, &event);
        connections[i].send(requests[sent++ % requests.size()]);
    }
    while (waiting > 0) {
        epoll_event events[64];
        const int ready = epoll_wait(poll, events, 64, 60'000);
        if (ready <= 0) return 7;
        for (int i = 0; i < ready; ++i) {
            Connection& connection = connections[events[i].data.u64];
            if (!connection.receive()) continue;
            const double at = now();
            latencies.push_back(at - connection.sent_at);
            if (at - started < seconds && sent < most)
                connection.send(requests[sent++ % requests.size()]);
            else
                --waiting;
        }
    }
    latencies.push_back(now() - started);
    std::fwrite(latencies.data(), sizeof(double), latencies.size(), stdout);
}
