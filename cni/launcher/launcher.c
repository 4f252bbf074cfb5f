// The CNI plugin binary: one static program under many names (bridge, host-local, …). It hands its environment, its
// stdin and the network namespaces it sees to the resident server over a Unix socket and prints the server's answer.
// Without a server it executes the same plugins with node. It parses no configuration and touches no network.
// `dhcp daemon` is the DHCP daemon, with node.
//
// Build: gcc -O2 -static -s -Wall -Wextra -o dist/cni/<plugin> cni/launcher/launcher.c
//
// Conversation (the server's side is cni/runtime/protocol.ts):
//   server   "PWCNI 1\n"                        at once after accept; silence means a hung server, so we use node
//   launcher u32 length, then that many bytes:  "key=value\0"… "\0"  environment "K=V\0"… "\0"  stdin
//   server   'R'                                refused, nothing was done: we use node
//            'D' u32 exit, u32 n, u32 m, n bytes for stdout, m bytes for stderr
// Numbers are little endian. Descriptors are not sent: the server opens /proc/<our pid>/ns/net and /proc/<our pid>/fd/N
// while we wait, and compares the inode numbers we sent, so a reused or foreign pid is noticed.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define GREETING "PWCNI 1\n"
// Tried in this order when PODWIRE_CNI_SOCKET is not set: conmon, for one, runs plugins with an environment of its own.
#define SOCKET_BESIDE "/cni.sock"
#define SERVE_SOCKET "/run/podwire/cni.sock"
#define AGENT_SOCKET "/var/lib/podwire/agent/cni.sock"
#define MAX_STDIN (4u << 20)
#define MAX_ENVIRONMENT (256u << 10)
#define MAX_ANSWER (64u << 20)
#define MAX_ARGUMENTS 32
// Long enough for a server on an overloaded machine: every node process started beside it makes that worse.
#define GREETING_TIMEOUT_MS 10000
#define ANSWER_TIMEOUT_MS 150000
#ifndef PODWIRE_LIB
#define PODWIRE_LIB "/usr/lib/podwire"
#endif

extern char **environ;

struct buffer {
  char *data;
  size_t length, capacity;
};

// Prints an error in the form of the CNI specification; `text` needs no JSON escapes.
static int fail(int code, const char *text, const char *details) {
  printf("{\n    \"code\": %d,\n    \"msg\": \"%s\",\n    \"details\": \"%s\"\n}\n", code, text, details);
  fflush(stdout);
  return 1;
}

static void append(struct buffer *b, const void *bytes, size_t length) {
  if (b->length + length > b->capacity) {
    size_t capacity = b->capacity ? b->capacity : 16384;
    while (capacity < b->length + length) capacity *= 2;
    char *data = realloc(b->data, capacity);
    if (!data) exit(fail(999, "podwire launcher: out of memory", ""));
    b->data = data;
    b->capacity = capacity;
  }
  memcpy(b->data + b->length, bytes, length);
  b->length += length;
}

static void append_text(struct buffer *b, const char *text) { append(b, text, strlen(text) + 1); }

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// Reads exactly `length` bytes before the deadline: 0, or -1 on end, error or silence.
static int receive(int fd, void *to, size_t length, int64_t deadline) {
  char *at = to;
  while (length > 0) {
    int64_t left = deadline - now_ms();
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int ready = left > 0 ? poll(&p, 1, (int)left) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return -1;
    ssize_t n = recv(fd, at, length, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return -1;
    at += n;
    length -= (size_t)n;
  }
  return 0;
}

static int transmit(int fd, const char *from, size_t length) {
  while (length > 0) {
    ssize_t n = send(fd, from, length, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return -1;
    from += n;
    length -= (size_t)n;
  }
  return 0;
}

static void write_all(int fd, const char *from, size_t length) {
  while (length > 0) {
    ssize_t n = write(fd, from, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    from += n;
    length -= (size_t)n;
  }
}

static uint32_t number(const unsigned char *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int connect_server(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof(address.sun_path)) return -1;
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  // Bounds connect() on a full backlog, and send() to a server that stopped reading.
  struct timeval limit = {.tv_sec = GREETING_TIMEOUT_MS / 1000};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) return fd;
  close(fd);
  return -1;
}

static int find_server(const char *directory) {
  const char *chosen = getenv("PODWIRE_CNI_SOCKET");
  if (chosen && *chosen) return connect_server(chosen);
  char beside[4096 + sizeof(SOCKET_BESIDE)];
  snprintf(beside, sizeof(beside), "%s" SOCKET_BESIDE, directory);
  int fd = connect_server(beside);
  if (fd < 0) fd = connect_server(SERVE_SOCKET);
  if (fd < 0) fd = connect_server(AGENT_SOCKET);
  return fd;
}

// The request's head and environment. A huge environment is cut down to what plugins and delegates need.
static void append_head(struct buffer *b, const char *plugin, const char *exe) {
  char line[128];
  struct stat st;
  append(b, "plugin=", 7);
  append_text(b, plugin);
  append(b, "exe=", 4);
  append_text(b, exe);
  snprintf(line, sizeof(line), "pid=%ld", (long)getpid());
  append_text(b, line);
  if (stat("/proc/self/ns/net", &st) == 0) {
    snprintf(line, sizeof(line), "netns=%llu", (unsigned long long)st.st_ino);
    append_text(b, line);
  }
  const char *netns = getenv("CNI_NETNS");
  if (netns && *netns) {
    // Opened here because our mount namespace may see mounts that the server's does not. O_NONBLOCK: it may be a pipe.
    int fd = open(netns, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) snprintf(line, sizeof(line), "podnserror=%d", errno);
    else snprintf(line, sizeof(line), "podns=%d:%llu", fd, (unsigned long long)st.st_ino);
    append_text(b, line);
  }
  append(b, "", 1);
  size_t total = 0;
  for (char **e = environ; *e; e++) total += strlen(*e) + 1;
  for (char **e = environ; *e; e++)
    if (**e && (total <= MAX_ENVIRONMENT || !strncmp(*e, "CNI_", 4) || !strncmp(*e, "PATH=", 5))) append_text(b, *e);
  append(b, "", 1);
}

// The directory of the running binary, so that a tree can be moved as a whole.
static void own_path(char *exe, size_t size, char *directory) {
  ssize_t n = readlink("/proc/self/exe", exe, size - 1);
  exe[n > 0 ? n : 0] = 0;
  strcpy(directory, exe);
  char *slash = strrchr(directory, '/');
  if (slash) *slash = 0;
}

// Never returns: the same plugin code in a node process of its own, 20 times slower than the server. `input`, if any, becomes
// its stdin; `rest` are further arguments.
static int run_node(const char *plugin, const char *directory, const char *exe, const struct buffer *input,
                    char **rest) {
  char script[8192], node[8192];
  const char *from = getenv("PODWIRE_CNI_FALLBACK");
  if (from && *from) snprintf(script, sizeof(script), "%s", from);
  else {
    snprintf(script, sizeof(script), "%s/../lib/cni.js", directory);
    if (access(script, R_OK) != 0) snprintf(script, sizeof(script), "%s", PODWIRE_LIB "/cni.js");
  }
  if (access(script, R_OK) != 0)
    return fail(11, "podwire CNI server not reachable, and its stand-in is not installed",
                "start podwire cni serve, or set PODWIRE_CNI_SOCKET or PODWIRE_CNI_FALLBACK");
#if defined(__aarch64__)
  const char *arch = "arm64";
#else
  const char *arch = "x64";
#endif
  if (input) {
    int memory = memfd_create("cni-stdin", MFD_CLOEXEC);
    if (memory < 0) return fail(5, "podwire launcher: memfd_create failed", strerror(errno));
    write_all(memory, input->data, input->length);
    lseek(memory, 0, SEEK_SET);
    dup2(memory, 0);
  }
  setenv("PODWIRE_CNI_PLUGIN", plugin, 1);
  setenv("PODWIRE_CNI_EXE", exe, 1);
  char *argv[MAX_ARGUMENTS + 4] = {"node", "--disable-warning=ExperimentalWarning", script};
  for (int i = 0; i < MAX_ARGUMENTS && rest[i]; i++) argv[3 + i] = rest[i];
  const char *chosen = getenv("PODWIRE_NODE");
  if (chosen && *chosen) execv(chosen, argv);
  snprintf(node, sizeof(node), "%s/../lib/node", directory);
  execv(node, argv);
  snprintf(node, sizeof(node), "%s/../../node_modules/node-linux-%s/bin/node", directory, arch);
  execv(node, argv);
  execv(PODWIRE_LIB "/node", argv);
  execvp("node", argv);
  return fail(11, "podwire CNI server not reachable, and no node was found to stand in for it",
              "start podwire cni serve, or set PODWIRE_NODE");
}

// 0 when the server answered (and *status is the exit status), -1 when nothing was done and node may be tried.
static int ask_server(int fd, const struct buffer *request, const char *command, int *status) {
  char greeting[sizeof(GREETING) - 1];
  unsigned char head[13];
  if (receive(fd, greeting, sizeof(greeting), now_ms() + GREETING_TIMEOUT_MS) != 0) return -1;
  if (memcmp(greeting, GREETING, sizeof(greeting)) != 0) return -1;
  // A request that was not sent whole is never started by the server.
  if (transmit(fd, request->data, request->length) != 0) return -1;
  int64_t deadline = now_ms() + ANSWER_TIMEOUT_MS;
  int lost = receive(fd, head, 1, deadline);
  if (!lost && head[0] == 'R') return -1;
  if (!lost) lost = receive(fd, head + 1, 12, deadline);
  uint32_t out = lost ? 0 : number(head + 5), err = lost ? 0 : number(head + 9);
  char *answer = lost || out > MAX_ANSWER || err > MAX_ANSWER ? NULL : malloc((size_t)out + err + 1);
  if (!answer || receive(fd, answer, (size_t)out + err, deadline) != 0) {
    // All verbs but ADD may be repeated; a half done ADD is undone by the DEL that the runtime owes after an error.
    if (strcmp(command, "ADD") != 0) return -1;
    *status = fail(11, "podwire CNI server went away during ADD", "try again after a DEL");
    return 0;
  }
  write_all(2, answer + out, err);
  write_all(1, answer, out);
  *status = (int)number(head + 1);
  return 0;
}

int main(int argc, char **argv) {
  char exe[4096], directory[4096];
  struct buffer input = {0}, request = {0};
  const char *name = argc > 0 ? strrchr(argv[0], '/') : NULL;
  const char *plugin = name ? name + 1 : argc > 0 ? argv[0] : "";
  const char *command = getenv("CNI_COMMAND");
  if (!command) command = "";
  own_path(exe, sizeof(exe), directory);
  // As with the reference's: `dhcp daemon -socketpath ...` keeps the leases.
  if (argc > 1 && !strcmp(plugin, "dhcp") && !strcmp(argv[1], "daemon"))
    return run_node(plugin, directory, exe, NULL, argv + 1);
  int fd = find_server(directory);

  // The specification gives VERSION no input to wait for, and a person who starts the program by hand gives none.
  if (*command && strcmp(command, "VERSION") != 0) {
    char chunk[65536];
    ssize_t n;
    while ((n = read(0, chunk, sizeof(chunk))) != 0) {
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail(5, "cannot read the network configuration from stdin", strerror(errno));
      append(&input, chunk, (size_t)n);
      if (input.length > MAX_STDIN) return fail(6, "network configuration on stdin is larger than 4 MiB", "");
    }
  }
  if (fd >= 0) {
    int status;
    append(&request, "\0\0\0\0", 4);
    append_head(&request, plugin, exe);
    append(&request, input.data ? input.data : "", input.length);
    uint32_t body = (uint32_t)(request.length - 4);
    for (int i = 0; i < 4; i++) request.data[i] = (char)(body >> (8 * i));
    if (ask_server(fd, &request, command, &status) == 0) return status;
    close(fd);
  }
  return run_node(plugin, directory, exe, &input, argv + argc);
}
