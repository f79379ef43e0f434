// NVIDIA's management library as far as p2-worker calls it, of a machine with two GPUs. What goes wrong with them
// stands in the file events beside this library, which a test appends to; each line once:
//   xid GPU-fake-1 79    the driver reports XID 79 of that GPU
//   error 15             the next wait ends with that nvmlReturn_t
// A file gpu-0-is-old there: the first GPU supports no events.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

namespace {

struct Device {
  const char* uuid;
};
Device devices[] = {{"GPU-fake-0"}, {"GPU-fake-1"}};
bool registered[2] = {};
int events_seen = 0;
int set_of_events = 0;

std::string Beside(const char* name) {
  Dl_info info;
  dladdr(reinterpret_cast<void*>(&Beside), &info);
  const std::string path = info.dli_fname;
  return path.substr(0, path.rfind('/') + 1) + name;
}

constexpr int kInvalid = 2, kNotSupported = 3, kNotFound = 6, kTimeout = 10;

}  // namespace

extern "C" {

struct Memory {
  unsigned long long total, free, used;
};
struct EventData {
  void* device;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};

int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 2;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = &devices[index];
  return 0;
}
int nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
  for (Device& candidate : devices) {
    if (strcmp(candidate.uuid, uuid) != 0) continue;
    *device = &candidate;
    return 0;
  }
  return kNotFound;
}
int nvmlDeviceGetName(void*, char* name, unsigned length) {
  snprintf(name, length, "Fake GPU");
  return 0;
}
int nvmlDeviceGetUUID(void* device, char* uuid, unsigned length) {
  snprintf(uuid, length, "%s", static_cast<Device*>(device)->uuid);
  return 0;
}
int nvmlDeviceGetMemoryInfo(void*, Memory* memory) {
  *memory = {1000, 900, 100};
  return 0;
}

int nvmlEventSetCreate(void** set) {
  *set = &set_of_events;
  return 0;
}
int nvmlEventSetFree(void*) { return 0; }
int nvmlDeviceRegisterEvents(void* device, unsigned long long types, void* set) {
  if (types != 8 || set != &set_of_events) return kInvalid;
  if (device == &devices[0] && access(Beside("gpu-0-is-old").c_str(), F_OK) == 0) return kNotSupported;
  registered[static_cast<Device*>(device) - devices] = true;
  return 0;
}
int nvmlEventSetWait_v2(void*, EventData* data, unsigned timeout_ms) {
  for (unsigned waited = 0; waited < timeout_ms; waited += 10) {
    std::ifstream events(Beside("events"));
    int number = 0;
    for (std::string line; std::getline(events, line) && !events.eof(); ++number) {
      if (number < events_seen) continue;
      ++events_seen;
      char uuid[64] = {};
      int code = 0;
      if (sscanf(line.c_str(), "error %d", &code) == 1) return code;
      void* device = nullptr;
      if (sscanf(line.c_str(), "xid %63s %d", uuid, &code) != 2 || nvmlDeviceGetHandleByUUID(uuid, &device) != 0)
        return kInvalid;
      if (!registered[static_cast<Device*>(device) - devices]) continue;
      *data = {device, 8, static_cast<unsigned long long>(code), ~0U, ~0U};
      return 0;
    }
    usleep(10'000);
  }
  return kTimeout;
}

}  // extern "C"
