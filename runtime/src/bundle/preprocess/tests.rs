use proptest::prelude::*;
use std::string::ToString;
use std::vec::Vec;

use super::*;

fn finite_f32() -> impl Strategy<Value = f32> {
    any::<f32>().prop_filter("finite", |v| v.is_finite())
}

fn tensor() -> impl Strategy<Value = Preprocess> {
    let perm = (0usize..=4).prop_flat_map(|n| Just((0..n as u8).collect::<Vec<_>>()).prop_shuffle());
    let lists = prop::collection::vec((finite_f32(), finite_f32()), 1..=MAX_CHANNELS);
    (perm, any::<u8>(), lists).prop_map(|(perm, axis, lists)| {
        let axes = if perm.is_empty() { 4 } else { perm.len() as u8 };
        Preprocess::Tensor(TensorPrep {
            perm: heapless::Vec::from_slice(&perm).unwrap(),
            axis: axis % axes,
            scale: lists.iter().map(|l| l.0).collect(),
            offset: lists.iter().map(|l| l.1).collect(),
        })
    })
}

fn image() -> impl Strategy<Value = Preprocess> {
    let numbers = (finite_f32(), [finite_f32(), finite_f32(), finite_f32()], [0.1f32..9.0, 0.1f32..9.0, 0.1f32..9.0]);
    (1u32..=4096, 1u32..=4096, 0u32..99, 0usize..3, 0usize..3, any::<bool>(), numbers).prop_map(
        |(width, height, more, resize, channels, nhwc, (scale, mean, std))| {
            let channels = [Channels::Rgb, Channels::Bgr, Channels::Gray][channels];
            let gray = channels == Channels::Gray;
            Preprocess::Image(ImagePrep {
                width,
                height,
                resize: [Resize::None, Resize::Stretch, Resize::Crop { shorter: width.max(height) + more }][resize],
                channels,
                scale,
                mean: if gray { [mean[0]; 3] } else { mean },
                std: if gray { [std[0]; 3] } else { std },
                layout: if nhwc { ImageLayout::Nhwc } else { ImageLayout::Nchw },
            })
        },
    )
}

fn mel() -> impl Strategy<Value = Mel> {
    let sizes = (1u32..=400, 1u32..=400, 0u32..4, 1u16..=128, 0f32..1000.0, 1001f32..4000.0);
    let usual = sizes.prop_map(|(frame, step, more, bins, low_hz, high_hz)| {
        Mel::tensorflow(frame, step, frame.next_power_of_two() << more, bins, low_hz, high_hz)
    });
    let floor = (any::<bool>(), 1e-12f32..1.0).prop_map(|(add, x)| if add { Floor::Add(x) } else { Floor::Max(x) });
    let flags = (any::<bool>(), any::<bool>(), 0usize..3, 0usize..3);
    (usual, any::<prop::sample::Index>(), flags, floor, 0f32..200.0, any::<bool>()).prop_map(
        |(usual, window, (power, area_norm, bands, log), floor, range, extended)| match extended {
            false => usual,
            true => Mel {
                window: window.index(usual.frame as usize) as u32 + 1,
                spectrum: if power { Spectrum::Power } else { Spectrum::Magnitude },
                bands: [Bands::TensorFlow, Bands::Htk, Bands::Slaney][bands],
                area_norm,
                log: [Log::Natural, Log::Base10, Log::Decibel][log],
                floor,
                range,
                ..usual
            },
        },
    )
}

fn audio() -> impl Strategy<Value = Preprocess> {
    let flags = (any::<bool>(), any::<bool>(), 0usize..3);
    let cut = (0usize..4, 1u32..9000, 0usize..2);
    (8000u32..48000, 400u32..100_000, cut, flags, mel(), 1u16..=128, finite_f32(), finite_f32()).prop_map(
        |(sample_rate, window_samples, (start, at, gain), (peak, time, frontend), mel, coefficients, scale, offset)| {
            let coefficients = coefficients.min(mel.bins);
            Preprocess::Audio(AudioPrep {
                sample_rate,
                window_samples,
                start: [Start::Sample(0), Start::Sample(0), Start::Sample(at), Start::Middle][start],
                peak,
                gain: [1.0, 32_768.0][gain],
                frontend: [Frontend::Raw, Frontend::TfMfcc { mel, coefficients }, Frontend::LogMel(mel)][frontend],
                scale,
                offset,
                layout: if time { AudioLayout::TimeMajor } else { AudioLayout::FeatureMajor },
            })
        },
    )
}

fn text() -> impl Strategy<Value = Preprocess> {
    (3u32..=TextPrep::MAX_TOKENS, any::<bool>())
        .prop_map(|(tokens, lower)| Preprocess::Text(TextPrep { tokens, lower }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn bytes_and_text_are_inverses(prep in prop_oneof![Just(Preprocess::None), tensor(), image(), audio(), text()]) {
        let bytes = prep.to_bytes().unwrap();
        prop_assert!(bytes.len() <= MAX_ENCODED_BYTES);
        prop_assert_eq!(&Preprocess::decode(&bytes).unwrap(), &prep);
        let text = prep.to_string();
        prop_assert_eq!(&Preprocess::parse(&text).unwrap(), &prep, "{}", text);
    }

    #[test]
    fn damaged_bytes_never_panic_and_what_is_accepted_is_sound(
        prep in prop_oneof![tensor(), image(), audio(), text()],
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut bytes = prep.to_bytes().unwrap();
        prop_assert!(Preprocess::decode(&bytes[..keep.index(bytes.len())]).is_err());
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Ok(prep) = Preprocess::decode(&bytes) {
            prop_assert!(prep.check().is_ok());
            prop_assert_eq!(prep.to_bytes().unwrap(), bytes);
        }
    }

    #[test]
    fn random_text_never_panics(text in "(image|tensor|mfcc|raw|text|none)?:?([a-z]{1,6}=[0-9x:/.a-z-]{0,9},?){0,5}") {
        if let Ok(prep) = Preprocess::parse(&text) {
            prop_assert_eq!(Preprocess::parse(&prep.to_string()).unwrap(), prep);
        }
    }
}

#[test]
fn the_usual_normalizations() {
    let of = |text: &str| match Preprocess::parse(text).unwrap() {
        Preprocess::Image(prep) => prep,
        other => panic!("{other}"),
    };
    // x / 255 with mean and std: at pixel 255, channel red, torchvision gives (1 − 0.485) / 0.229 = 2.2489.
    let torch = of("image:size=224x224,resize=crop:256,norm=imagenet");
    let red = (255.0 * torch.scale - torch.mean[0]) / torch.std[0];
    assert!((red - 2.2489).abs() < 1e-4, "{red}");
    assert_eq!(torch.resize, Resize::Crop { shorter: 256 });
    let tf = of("image:size=96x96,norm=tf,layout=nhwc");
    assert_eq!((0.0 * tf.scale - tf.mean[2], 255.0 * tf.scale - tf.mean[2]), (-1.0, 1.0));
    let caffe = of("image:size=224x224,norm=caffe");
    assert_eq!((caffe.channels, caffe.mean[0]), (Channels::Bgr, 103.939));
}

#[test]
fn faults_are_named() {
    for (text, part) in [
        ("picture:size=1x1", "picture"),
        ("image:resize=crop", "size"),
        ("image:size=8", "WIDTHxHEIGHT"),
        ("image:size=8x8,colour=red", "colour"),
        ("image:size=8x8,size=9x9", "twice"),
        ("image:size=8x8,std=0", "std is zero"),
        ("image:size=8x8,scale=1/0", "finite"),
        ("image:size=8x8,resize=crop:4", "shorter side"),
        ("image:size=8x8,channels=gray,mean=1:2:3", "one a channel"),
        ("image:size=8x8,channels=rgb,norm=caffe", "bgr"),
        ("image:size=0x8", "width"),
        ("tensor:perm=0:0", "perm"),
        ("tensor:scale=1:2,offset=1:2:3", "lengths"),
        ("mfcc:rate=16000,frame=480", "missing"),
        ("mfcc:rate=16000,frame=480,step=320,fft=512,bins=40,low=20,high=9000,coefficients=10", "edges"),
        ("mfcc:rate=16000,frame=480,step=320,fft=256,bins=40,low=20,high=4000,coefficients=10", "fft"),
        ("text:lower=yes", "missing"),
        ("text:len=2", "tokens of a text"),
        ("text:len=8193", "tokens of a text"),
        ("text:len=8,lower=maybe", "lower=yes or no"),
        ("raw:rate=8000,start=late", "whole number"),
        ("raw:rate=8000,gain=0", "gain"),
        ("raw:rate=8000,window=4", "no such key"),
        ("logmel:rate=16000,frame=400,step=160,fft=512,bins=32,low=60,high=3800,window=401", "window"),
        ("logmel:rate=16000,frame=400,step=160,fft=512,bins=32,low=60,high=3800,mel=bark", "mel=tensorflow"),
        ("logmel:rate=16000,frame=400,step=160,fft=512,bins=32,low=60,high=3800,floor=1e-6", "floor=add"),
        ("logmel:rate=16000,frame=400,step=160,fft=512,bins=32,low=60,high=3800,floor=max:0", "floor"),
        ("logmel:rate=16000,frame=400,step=160,fft=512,bins=32,low=60,high=3800,range=-1", "range"),
    ] {
        let error = Preprocess::parse(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn golden_bytes() {
    let prep =
        Preprocess::parse("image:size=3x2,resize=stretch,channels=bgr,scale=0.5,mean=1:2:3,layout=nhwc").unwrap();
    let mut expected = Vec::from([2u8, 1, 1, 1, 3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    for number in [0.5f32, 1.0, 2.0, 3.0, 1.0, 1.0, 1.0] {
        expected.extend(number.to_le_bytes());
    }
    assert_eq!(prep.to_bytes().unwrap(), expected);
}

#[test]
fn golden_bytes_of_text() {
    let prep = Preprocess::parse("text:len=64").unwrap();
    assert_eq!(prep.to_bytes().unwrap(), [4, 1, 0, 0, 64, 0, 0, 0]);
    assert_eq!(prep.to_string(), "text:len=64,lower=yes");
}

/// The record of a bundle written before the extension, byte for byte, and one that needs it.
#[test]
fn golden_bytes_of_sound() {
    let keys = "frame=480,step=320,fft=512,bins=40,low=20,high=4000,coefficients=10";
    let plain = Preprocess::parse(&std::format!("mfcc:rate=16000,{keys}")).unwrap();
    let mut expected = Vec::from([3u8, 1, 1, 0]);
    [16_000u32, 16_000].iter().for_each(|v| expected.extend(v.to_le_bytes()));
    [1.0f32, 0.0].iter().for_each(|v| expected.extend(v.to_le_bytes()));
    [480u32, 320, 512].iter().for_each(|v| expected.extend(v.to_le_bytes()));
    [40u16, 10].iter().for_each(|v| expected.extend(v.to_le_bytes()));
    [20.0f32, 4000.0].iter().for_each(|v| expected.extend(v.to_le_bytes()));
    assert_eq!(plain.to_bytes().unwrap(), expected);

    let more = "start=middle,gain=2,window=400,spectrum=power,mel=slaney,norm=area,log=db,floor=max:0.5,range=80";
    let extended = Preprocess::parse(&std::format!("mfcc:rate=16000,{keys},{more}")).unwrap();
    expected[1] = 0x81;
    let plain_len = expected.len();
    expected.extend(u32::MAX.to_le_bytes());
    expected.extend(2.0f32.to_le_bytes());
    expected.extend(400u32.to_le_bytes());
    expected.extend([1u8, 2, 1, 2, 1, 0, 0, 0]);
    [0.5f32, 80.0].iter().for_each(|v| expected.extend(v.to_le_bytes()));
    assert_eq!(extended.to_bytes().unwrap(), expected);

    // The extension with the values that are meant without it is refused: one record, one encoding.
    let mut idle = expected[..plain_len].to_vec();
    idle.extend(0u32.to_le_bytes());
    idle.extend(1.0f32.to_le_bytes());
    idle.extend(480u32.to_le_bytes());
    idle.extend([0; 8]);
    [1e-6f32, 0.0].iter().for_each(|v| idle.extend(v.to_le_bytes()));
    let error = Preprocess::decode(&idle).unwrap_err().to_string();
    assert!(error.contains("says nothing more"), "{error}");
}
