/* A GPU as NVML tells it, set by the environment; compiled with functions left out, an older library. */
#include <stdlib.h>
#include <string.h>

static long long setting(const char *name, long long fallback)
{
    const char *text = getenv(name);
    return text ? atoll(text) : fallback;
}

int nvmlInit_v2(void) { return (int)setting("FAKE_NVML_INIT", 0); }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
    *device = (void *)0x1234;
    return index == 0 ? (int)setting("FAKE_NVML_HANDLE", 0) : 6;
}
int nvmlDeviceGetName(void *device, char *name, unsigned length)
{
    (void)device;
    strncpy(name, "NVIDIA Fake 4000", length);
    return 0;
}
int nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    strncpy(version, "580.1", length);
    return 0;
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *value)
{
    *value = (unsigned)setting("FAKE_NVML_TEMPERATURE", 61);
    return device == (void *)0x1234 && sensor == 0 ? 0 : 2;
}
int nvmlDeviceGetClockInfo(void *device, int type, unsigned *value)
{
    (void)device;
    *value = 1410;
    return type == 1 ? 0 : 2;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *value)
{
    (void)device;
    *value = (unsigned)setting("FAKE_NVML_MILLIWATTS", 70500);
    return (int)setting("FAKE_NVML_POWER_STATUS", 0);
}
#ifndef OLD
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *value)
{
    (void)device;
    *value = (unsigned long long)setting("FAKE_NVML_MILLIJOULES", 5000);
    return (int)setting("FAKE_NVML_ENERGY_STATUS", 0);
}
int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *value)
{
    (void)device;
    *value = (unsigned long long)setting("FAKE_NVML_REASONS", 0);
    return 0;
}
#endif
