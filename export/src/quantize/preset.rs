//! Provider presets: what the files are quantized like so that a provider takes them, and why.
//!
//! A preset is a table of settings. What differs from `generic` has a reason, which is shown to whoever exports. Reasons are taken from the
//! providers' documentation and sources (`docs/providers.md` says which, and what has been tried).

use super::{ActivationType, Options, Precision, Scores, WeightScales};

/// What the files of an export are meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// The native engine, tract, ONNX Runtime's own kernels.
    #[default]
    Generic,
    /// Qualcomm's Hexagon NPU by way of QNN.
    Qnn,
    /// Intel's OpenVINO on the processor.
    OpenVino,
    /// XNNPACK.
    Xnnpack,
    /// Apple's Core ML.
    CoreMl,
    /// Android's Neural Networks API.
    Nnapi,
    /// TensorFlow Lite's 8-bit specification, for microcontrollers.
    TfliteMcu,
}

/// What a preset decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Numbers that the backbone computes with. The others are for int8 alone, but for the batch.
    pub precision: Precision,
    /// Type of activations.
    pub activations: ActivationType,
    /// What has a weight scale of its own.
    pub weights: WeightScales,
    /// Whether weights keep to 7 bits.
    pub reduce_range: bool,
    /// How the model's outputs leave the file: `float` leaves the last dense layer's result and a softmax in float.
    pub scores: Scores,
    /// Whether scales keep to what is prescribed ([`Options::prescribed_steps`]).
    pub prescribed_steps: bool,
    /// Whether the files take one row at a time.
    pub fixed_batch: bool,
}

/// One setting, as it is printed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// Its name, a word that stays the same: `precision`, `activations`, `weights`, `reduce_range`, `scores`, `steps`, `batch`.
    pub setting: &'static str,
    /// What the preset sets.
    pub value: &'static str,
    /// What `generic` has.
    pub generic: &'static str,
    /// Why.
    pub why: &'static str,
}

/// A setting that was given beside the preset and wins over it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Overridden {
    /// As in [`Change`].
    pub setting: &'static str,
    /// What was given.
    pub value: &'static str,
    /// What the preset would have set.
    pub preset: &'static str,
}

const GENERIC: Settings = Settings {
    precision: Precision::Int8,
    activations: ActivationType::Uint8,
    weights: WeightScales::PerChannel,
    reduce_range: false,
    scores: Scores::Float,
    prescribed_steps: false,
    fixed_batch: false,
};

impl Preset {
    /// All.
    pub const ALL: [Self; 7] =
        [Self::Generic, Self::Qnn, Self::OpenVino, Self::Xnnpack, Self::CoreMl, Self::Nnapi, Self::TfliteMcu];

    /// As the command line names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Qnn => "qnn",
            Self::OpenVino => "openvino",
            Self::Xnnpack => "xnnpack",
            Self::CoreMl => "coreml",
            Self::Nnapi => "nnapi",
            Self::TfliteMcu => "tflite-mcu",
        }
    }

    /// The preset of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// What it decides.
    #[must_use]
    pub const fn settings(self) -> Settings {
        match self {
            Self::Generic => GENERIC,
            Self::Qnn => Settings { scores: Scores::Quantized, fixed_batch: true, ..GENERIC },
            Self::OpenVino => Settings { reduce_range: true, ..GENERIC },
            Self::Xnnpack => Settings { activations: ActivationType::Int8, ..GENERIC },
            Self::CoreMl => Settings { precision: Precision::Fp16, fixed_batch: true, ..GENERIC },
            Self::Nnapi => Settings {
                weights: WeightScales::ConvPerChannel,
                scores: Scores::Quantized,
                prescribed_steps: true,
                fixed_batch: true,
                ..GENERIC
            },
            Self::TfliteMcu => Settings {
                activations: ActivationType::Int8,
                weights: WeightScales::ConvPerChannel,
                scores: Scores::Quantized,
                prescribed_steps: true,
                fixed_batch: true,
                ..GENERIC
            },
        }
    }

    /// What is different from `generic`, and why.
    #[must_use]
    pub fn changes(self) -> Vec<Change> {
        let pairs = self.settings().named().into_iter().zip(GENERIC.named());
        pairs
            .filter(|(own, generic)| own != generic)
            .map(|((setting, value), (_, generic))| Change { setting, value, generic, why: self.why(setting) })
            .collect()
    }

    /// What of `given` is not as the preset has it.
    #[must_use]
    pub fn overridden(self, given: Settings) -> Vec<Overridden> {
        let pairs = given.named().into_iter().zip(self.settings().named());
        pairs
            .filter(|(given, own)| given != own)
            .map(|((setting, value), (_, preset))| Overridden { setting, value, preset })
            .collect()
    }

    /// The reason for a setting that differs from `generic`.
    fn why(self, setting: &str) -> &'static str {
        match (self, setting) {
            (Self::Qnn, "scores") => "the NPU takes an operator that is quantized on both sides; float ends fall back",
            (Self::Qnn | Self::Nnapi, "batch") => "the provider takes no open sizes",
            (Self::OpenVino, "reduce_range") => {
                "its 8-bit products saturate on x86 processors without VNNI, and no option of it avoids that"
            }
            (Self::Xnnpack, "activations") => {
                "its convolutions take int8 by int8, with a scale a channel; uint8 by int8 they leave"
            }
            (Self::CoreMl, "precision") => {
                "the provider has no QuantizeLinear and DequantizeLinear; Apple's Neural Engine computes in fp16"
            }
            (Self::CoreMl, "batch") => "Core ML plans for fixed sizes",
            (Self::Nnapi, "weights") => {
                "it has scales a channel for convolutions (Android 10 and newer), not for dense layers"
            }
            (Self::Nnapi, "scores") => "float ends would be partitions of their own",
            (Self::Nnapi, "steps") => {
                "it takes a quantized softmax with steps of 1/256 from 0, and average pools that keep their step"
            }
            (Self::TfliteMcu, "activations" | "weights" | "steps") => "TensorFlow Lite's 8-bit specification",
            (Self::TfliteMcu, "scores") => "int8 in and int8 out: no float kernels in the firmware",
            (Self::TfliteMcu, "batch") => "a microcontroller's memory is planned for one row",
            _ => "",
        }
    }
}

impl Settings {
    /// The quantizer's settings, as far as a preset decides them.
    #[must_use]
    pub fn options(self) -> Options {
        Options {
            activations: self.activations,
            weights: self.weights,
            reduce_range: self.reduce_range,
            scores: self.scores,
            prescribed_steps: self.prescribed_steps,
            ..Options::default()
        }
    }

    /// Every setting by its name. Of fp16 files the precision and the batch alone say something.
    fn named(self) -> Vec<(&'static str, &'static str)> {
        let mut all =
            vec![("precision", self.precision.name()), ("batch", if self.fixed_batch { "1" } else { "open" })];
        if self.precision == Precision::Int8 {
            all.extend([
                ("activations", self.activations.name()),
                ("weights", self.weights.name()),
                ("reduce_range", if self.reduce_range { "7 bits" } else { "8 bits" }),
                ("scores", self.scores.name()),
                ("steps", if self.prescribed_steps { "prescribed" } else { "measured" }),
            ]);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_has_its_reason_and_every_name_leads_back() {
        for preset in Preset::ALL {
            assert_eq!(Preset::named(preset.name()), Some(preset));
            for change in preset.changes() {
                assert!(!change.why.is_empty(), "{}: {change:?}", preset.name());
            }
            assert!(preset.overridden(preset.settings()).is_empty());
        }
        assert!(Preset::Generic.changes().is_empty());
        assert_eq!(Preset::named("npu"), None);
    }

    #[test]
    fn generic_is_the_quantizers_default() {
        assert_eq!(Preset::Generic.settings().options(), Options::default());
    }

    #[test]
    fn what_is_given_is_told_from_the_preset() {
        let given = Settings { activations: ActivationType::Uint8, ..Preset::TfliteMcu.settings() };
        let [only] = &Preset::TfliteMcu.overridden(given)[..] else { panic!("one setting was given") };
        assert_eq!((only.setting, only.value, only.preset), ("activations", "uint8", "int8"));
        let given = Settings { precision: Precision::Int8, ..Preset::CoreMl.settings() };
        assert_eq!(Preset::CoreMl.overridden(given)[0].setting, "precision");
    }
}
