//! The sensors of a simulated machine: their SDR records and readings.

/// One analog sensor.
pub struct Sensor {
    number: u8,
    name: &'static str,
    kind: u8,
    unit: u8,
    multiplier: u8,
    exponent: u8,
    on: u8,
    off: u8,
    upper: u8,
}

/// All sensors of a machine: number, name, sensor type (table 42-3), unit (43-15), factor, exponent
/// of ten as a signed nibble, raw reading when on and off, upper critical threshold.
pub const SENSORS: [Sensor; 5] = [
    Sensor {
        number: 1,
        name: "Inlet Temp",
        kind: 1,
        unit: 1,
        multiplier: 1,
        exponent: 0,
        on: 24,
        off: 20,
        upper: 45,
    },
    Sensor {
        number: 2,
        name: "CPU Temp",
        kind: 1,
        unit: 1,
        multiplier: 1,
        exponent: 0,
        on: 51,
        off: 21,
        upper: 95,
    },
    Sensor {
        number: 3,
        name: "Fan 1",
        kind: 4,
        unit: 18,
        multiplier: 60,
        exponent: 0,
        on: 90,
        off: 0,
        upper: 250,
    },
    Sensor {
        number: 4,
        name: "PS 12V",
        kind: 2,
        unit: 4,
        multiplier: 63,
        exponent: 0xd,
        on: 193,
        off: 193,
        upper: 210,
    },
    Sensor {
        number: 5,
        name: "Pwr Consumption",
        kind: 0x0b,
        unit: 6,
        multiplier: 2,
        exponent: 0,
        on: 71,
        off: 6,
        upper: 240,
    },
];

/// Record `index` and the id of the next one, 0xffff behind the last.
pub fn record(id: u16) -> Option<(Vec<u8>, u16)> {
    let index = usize::from(id);
    let next = |index: usize| match index + 1 {
        next if next <= SENSORS.len() => u16::try_from(next).unwrap_or(u16::MAX),
        _ => u16::MAX,
    };
    match SENSORS.get(index) {
        Some(sensor) => Some((sensor.record(id), next(index))),
        None if index == SENSORS.len() => Some((fru_locator(id), u16::MAX)),
        None => None,
    }
}

/// How many records there are.
pub fn count() -> u16 {
    u16::try_from(SENSORS.len() + 1).unwrap_or(u16::MAX)
}

/// Raw reading of a sensor.
pub fn reading(number: u8, power: bool) -> Option<u8> {
    let sensor = SENSORS.iter().find(|sensor| sensor.number == number)?;
    Some(if power { sensor.on } else { sensor.off })
}

/// Upper critical threshold of a sensor.
pub fn upper(number: u8) -> Option<u8> {
    SENSORS.iter().find(|sensor| sensor.number == number).map(|sensor| sensor.upper)
}

impl Sensor {
    /// A full sensor record (IPMI 2.0 table 43-1).
    fn record(&self, id: u16) -> Vec<u8> {
        let mut out = id.to_le_bytes().to_vec();
        out.extend([0x51, 0x01, 0]);
        // owner, lun, number, entity (system board), instance, initialization, capabilities
        out.extend([0x20, 0, self.number, 0x07, 0x01, 0x7f, 0x68]);
        // type, threshold events, assertion and deassertion masks, readable thresholds
        out.extend([self.kind, 0x01, 0x00, 0x02, 0x00, 0x02, 0x10, 0x00]);
        // unsigned, base unit, no modifier, linear
        out.extend([0x00, self.unit, 0x00, 0x00]);
        // M, tolerance, B, accuracy (two bytes), exponents of result and of B
        out.extend([self.multiplier, 0, 0, 0, 0, self.exponent << 4]);
        // nominal reading given; nominal, normal max, normal min, max, min
        out.extend([0x01, self.on, self.upper, 0, 0xff, 0]);
        // upper non-recoverable, critical, non-critical, lower ones, hysteresis, reserved, OEM
        out.extend([self.upper, self.upper, self.upper, 0, 0, 0, 1, 1, 0, 0, 0]);
        out.push(0xc0 | u8::try_from(self.name.len()).expect("short names"));
        out.extend(self.name.as_bytes());
        out[4] = u8::try_from(out.len() - 5).expect("short record");
        out
    }
}

/// A locator for FRU 0 (IPMI 2.0 table 43-7).
fn fru_locator(id: u16) -> Vec<u8> {
    let name = b"Builtin FRU";
    let mut out = id.to_le_bytes().to_vec();
    out.extend([0x51, 0x11, 0]);
    out.extend([0x20, 0x00, 0x80, 0x00, 0x00, 0x10, 0x00, 0x07, 0x01, 0x00]);
    out.push(0xc0 | u8::try_from(name.len()).expect("short name"));
    out.extend(name);
    out[4] = u8::try_from(out.len() - 5).expect("short record");
    out
}
