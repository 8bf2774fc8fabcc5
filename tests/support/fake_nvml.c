/* A libnvidia-ml.so.1 that says what a text file tells it to, so that the worker is tested against a real
 * shared library: its loading, structures, return codes, hangs and crashes.
 *
 * $FAKE_NVML_STATE names the file; it is read again at every call. Lines of "key value":
 *   count 1              GPUs                         init_error 9       nvmlInit fails with this
 *   hang_seconds 60      every device call sleeps     crash 1            every device call is a segfault
 *   epoch 1              a change makes every device call fail until the next nvmlInit,
 *   epoch_error 999      with this
 *   v2_error 25          memory version 2 fails with this
 * and for GPU N:
 *   N.total_mib 12227    N.used_mib 800    N.reserved_mib 400    N.error 15
 *   N.process 1234 512   (repeatable; -1 MiB is "not available")
 *   N.raw_process 1234 1 (likewise, in bytes)
 *   N.xid 79             reported once, and again when "xid_serial" changes; "no_events 1": not supported
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define MIB (1ULL << 20)

typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process_v3;

typedef struct { void *device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } event;

static long epoch_at_init;
static long long xid_serial_seen = -1;
static int xid_next_gpu;

static long long value_of(long long otherwise, const char *format, ...) {
    char key[64], name[64];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(key, sizeof key, format, arguments);
    va_end(arguments);
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return otherwise;
    char line[256];
    while (fgets(line, sizeof line, file)) {
        long long value;
        if (sscanf(line, "%63s %lld", name, &value) == 2 && strcmp(name, key) == 0) otherwise = value;
    }
    fclose(file);
    return otherwise;
}

static int index_of(void *device) { return (int)((size_t)device - 1); }

static int enter(void) {
    long long seconds = value_of(0, "hang_seconds");
    if (seconds) sleep((unsigned)seconds);
    if (value_of(0, "crash")) raise(SIGSEGV);
    if (value_of(0, "epoch") != epoch_at_init) return (int)value_of(1, "epoch_error");
    return 0;
}

static int enter_device(void *device) {
    int error = enter();
    return error ? error : (int)value_of(0, "%d.error", index_of(device));
}

EXPORT int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int error = (int)value_of(0, "init_error");
    if (!error) epoch_at_init = (long)value_of(0, "epoch");
    return error;
}

EXPORT int nvmlShutdown(void) { return 0; }

EXPORT int nvmlDeviceGetCount_v2(unsigned *count) {
    int error = enter();
    *count = (unsigned)value_of(1, "count");
    return error;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = (void *)(size_t)(index + 1);
    return enter();
}

EXPORT int nvmlDeviceGetName(void *device, char *name, unsigned length) {
    snprintf(name, length, "Fake GPU %d", index_of(device));
    return enter_device(device);
}

EXPORT int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
    snprintf(uuid, length, "GPU-fake-%d", index_of(device));
    return enter_device(device);
}

static unsigned long long mebibytes(void *device, const char *key, long long otherwise) {
    return (unsigned long long)value_of(otherwise, "%d.%s", index_of(device), key) * MIB;
}

EXPORT int nvmlDeviceGetMemoryInfo(void *device, memory_v1 *memory) {
    memory->total = mebibytes(device, "total_mib", 12227);
    memory->used = mebibytes(device, "used_mib", 800) + mebibytes(device, "reserved_mib", 400);
    memory->free = memory->total - memory->used;
    return enter_device(device);
}

EXPORT int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2 *memory) {
    int error = (int)value_of(0, "v2_error");
    if (error || memory->version != (sizeof *memory | (2U << 24))) return error ? error : 25;
    memory->total = mebibytes(device, "total_mib", 12227);
    memory->used = mebibytes(device, "used_mib", 800);
    memory->reserved = mebibytes(device, "reserved_mib", 400);
    memory->free = memory->total - memory->used - memory->reserved;
    return enter_device(device);
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process_v3 *rows) {
    int error = enter_device(device);
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *file = path && !error ? fopen(path, "r") : NULL;
    if (!file) { *count = 0; return error; }
    unsigned found = 0, room = rows ? *count : 0;
    char line[256], name[64], in_mebibytes[64], in_bytes[64];
    snprintf(in_mebibytes, sizeof in_mebibytes, "%d.process", index_of(device));
    snprintf(in_bytes, sizeof in_bytes, "%d.raw_process", index_of(device));
    while (fgets(line, sizeof line, file)) {
        unsigned pid;
        long long size;
        if (sscanf(line, "%63s %u %lld", name, &pid, &size) != 3) continue;
        int raw = strcmp(name, in_bytes) == 0;
        if (!raw && strcmp(name, in_mebibytes) != 0) continue;
        if (found < room) {
            unsigned long long used = raw ? (unsigned long long)size : (unsigned long long)size * MIB;
            rows[found] = (process_v3){pid, size < 0 ? ~0ULL : used, ~0U, ~0U};
        }
        found++;
    }
    fclose(file);
    *count = found;
    return found > room ? 7 : 0;
}

EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, process_v3 *rows) {
    (void)rows;
    *count = 0;
    return enter_device(device);
}

#define XID_EVENT 8ULL

EXPORT int nvmlEventSetCreate(void **set) { *set = (void *)1; return value_of(0, "no_events") ? 3 : 0; }
EXPORT int nvmlEventSetFree(void *set) { (void)set; return 0; }

EXPORT int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set) {
    (void)set;
    return types == XID_EVENT ? enter_device(device) : 2;
}

EXPORT int nvmlDeviceGetIndex(void *device, unsigned *index) { *index = (unsigned)index_of(device); return 0; }

EXPORT int nvmlEventSetWait_v2(void *set, event *found, unsigned milliseconds) {
    (void)set; (void)milliseconds;
    long long serial = value_of(0, "xid_serial");
    if (serial != xid_serial_seen) { xid_serial_seen = serial; xid_next_gpu = 0; }
    for (int count = (int)value_of(1, "count"); xid_next_gpu < count; xid_next_gpu++) {
        long long number = value_of(0, "%d.xid", xid_next_gpu);
        if (!number) continue;
        *found = (event){(void *)(size_t)(++xid_next_gpu), XID_EVENT, (unsigned long long)number, ~0U, ~0U};
        return 0;
    }
    return 10;
}
