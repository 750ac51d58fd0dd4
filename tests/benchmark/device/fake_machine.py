"""Made kernel files: a Jetson Orin, a PC, a laptop's worth of sensors, in the units of the kernel's documents."""

from __future__ import annotations

from pathlib import Path

from vidprism_edge.benchmark.device.tree import Tree


def write(root: Path, files: dict[str, object]) -> Tree:
    """Write files below ``root`` and return them as a tree; an existing one is replaced."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return Tree(root)


CPUFREQ = "sys/devices/system/cpu/cpufreq/policy0"
ZONE = "sys/class/thermal/thermal_zone0"
INA = "sys/class/hwmon/hwmon1"

ORIN: dict[str, object] = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "proc/meminfo": "MemTotal:        7802920 kB",
    "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"',
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64",
    "var/lib/nvpmodel/status": "pmode:0001 fmode:quiet",
    "etc/nvpmodel.conf": "".join(
        f"< POWER_MODEL ID={number} NAME={name} >\n" for number, name in enumerate(("15W", "25W", "MAXN_SUPER"))
    ),
    f"{CPUFREQ}/scaling_governor": "schedutil",
    f"{CPUFREQ}/scaling_cur_freq": 1344000,
    f"{CPUFREQ}/scaling_max_freq": 1344000,
    f"{CPUFREQ}/cpuinfo_max_freq": 1728000,
    "sys/class/devfreq/17000000.gpu/cur_freq": 918000000,
    f"{ZONE}/type": "cpu-thermal",
    f"{ZONE}/temp": 51218,
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal",
    "sys/class/thermal/thermal_zone1/temp": -256000,
    "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0",
    "sys/class/thermal/cooling_device0/cur_state": 0,
    "sys/class/thermal/cooling_device1/type": "pwm-fan",
    "sys/class/thermal/cooling_device1/cur_state": 1,
    f"{INA}/name": "ina3221",
    f"{INA}/in1_label": "VDD_IN",
    f"{INA}/in1_input": 5064,
    f"{INA}/curr1_input": 1304,
    f"{INA}/in2_label": "VDD_CPU_GPU_CV",
    f"{INA}/in2_input": 5056,
    f"{INA}/curr2_input": 424,
    f"{INA}/oc1_event_cnt": 0,
}  # fmt: skip

RAPL = "sys/class/powercap/intel-rapl:0"
PC: dict[str, object] = {
    "sys/class/dmi/id/sys_vendor": "ASUS",
    "sys/class/dmi/id/product_name": "PN53",
    f"{RAPL}/name": "package-0",
    f"{RAPL}/energy_uj": 1_000_000,
    f"{RAPL}/max_energy_range_uj": 65_532_610_987,
    "sys/class/powercap/intel-rapl:0:0/energy_uj": 5,
    "sys/class/hwmon/hwmon0/name": "k10temp",
    "sys/class/hwmon/hwmon0/temp1_input": 48250,
    "sys/class/hwmon/hwmon0/temp1_label": "Tctl",
    f"{CPUFREQ}/scaling_governor": "performance",
    f"{CPUFREQ}/scaling_cur_freq": 4_200_000,
    f"{CPUFREQ}/scaling_max_freq": 4_500_000,
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": 7,
    "sys/devices/system/cpu/cpufreq/boost": 1,
}


def stat(busy_s: float, idle_s: float = 0.0) -> str:
    """The first line of /proc/stat: hundredths of a second."""
    return f"cpu  {round(busy_s * 100)} 0 0 {round(idle_s * 100)} 0 0 0 0 0 0"
