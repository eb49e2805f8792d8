use super::*;
use crate::data::tests::shared;
use crate::data::{Clip, Options, Source, npy};

fn row(values: RawRow) -> Row {
    Row { index: 0, label: None, id: "row".into(), values }
}

/// The front end of the keyword model in the shared models directory.
fn keywords() -> Preprocess {
    "mfcc:rate=16000,frame=480,step=320,fft=512,bins=40,low=20,high=4000,coefficients=10".parse().unwrap()
}

/// The front end of the speech embedding there: its `melspectrogram.onnx` on samples 1680 to 14320 in int16's range, then x / 10 + 2.
fn speech_embedding() -> Preprocess {
    "logmel:rate=16000,samples=12640,start=1680,gain=32768,frame=512,window=400,step=160,fft=512,bins=32,low=60,high=3800,\
     spectrum=power,mel=slaney,norm=area,log=db,floor=max:1e-10,range=80,scale=0.1,offset=2"
        .parse()
        .unwrap()
}

fn picture(width: u32, height: u32, resize: Resize, channels: Channels, layout: ImageLayout) -> ImagePrep {
    ImagePrep { width, height, resize, channels, scale: 1.0, mean: [0.0; 3], std: [1.0; 3], layout }
}

#[test]
fn arrays_are_scaled_by_channel_and_transposed_as_numpy_does() {
    // numpy: (x * [1, 10] + [0, 0.5]).transpose(1, 0) of arange(6).reshape(3, 2).
    let (perm, scale, offset) =
        ([1, 0].into_iter().collect(), [1.0, 10.0].into_iter().collect(), [0.0, 0.5].into_iter().collect());
    let prep = Preprocess::Tensor(TensorPrep { perm, axis: 1, scale, offset });
    let values = RawRow::Array { shape: vec![3, 2], values: Values::U8(vec![0, 1, 2, 3, 4, 5]) };
    let ready = Preprocessor::new(&prep, &[2, 3]).unwrap();
    assert_eq!(ready.apply(&row(values)).unwrap(), [0.0, 2.0, 4.0, 10.5, 30.5, 50.5]);
    let narrow = RawRow::Array { shape: vec![6], values: Values::U8(vec![0; 6]) };
    assert!(matches!(ready.apply(&row(narrow)), Err(Error::Shape { .. })));
    let none = Preprocessor::new(&Preprocess::None, &[2]).unwrap();
    let last = RawRow::Array { shape: vec![4, 5, 3], values: Values::U8(vec![0; 60]) };
    let scrambled = Preprocessor::new(&Preprocess::None, &[3, 4, 5]).unwrap().apply(&row(last.clone())).unwrap_err();
    assert!(scrambled.to_string().contains("tensor:perm=2:0:1"), "{scrambled}");
    let first = Preprocess::parse("tensor:perm=2:0:1").unwrap();
    assert!(Preprocessor::new(&first, &[3, 4, 5]).unwrap().apply(&row(last.clone())).is_ok());
    assert!(Preprocessor::new(&first, &[3, 5, 4]).unwrap().apply(&row(last.clone())).is_err());
    assert!(Preprocessor::new(&Preprocess::None, &[60]).unwrap().apply(&row(last)).is_ok(), "a flat input");
    let huge = RawRow::Array { shape: vec![2], values: Values::F64(vec![0.0, 1e300]) };
    assert!(matches!(none.apply(&row(huge)), Err(Error::NonFinite { index: 1, .. })));
    let three = RawRow::Array { shape: vec![3], values: Values::F32(vec![0.0; 3]) };
    assert!(none.apply(&row(three)).unwrap_err().to_string().contains("expected shape 2 numbers"));
}

#[test]
fn pictures_and_rows_of_bytes_are_the_same() {
    let rgb: Vec<u8> = (0..12).collect();
    let file = row(RawRow::Image(Picture { width: 2, height: 2, rgb: rgb.clone() }));
    let bytes = row(RawRow::Array { shape: vec![2, 2, 3], values: Values::U8(rgb) });
    let mut prep = picture(2, 2, Resize::None, Channels::Bgr, ImageLayout::Nchw);
    prep.mean = [1.0, 2.0, 3.0];
    prep.std = [2.0; 3];
    let ready = Preprocessor::new(&Preprocess::Image(prep), &[3, 2, 2]).unwrap();
    let expected = [0.5, 2.0, 3.5, 5.0, -0.5, 1.0, 2.5, 4.0, -1.5, 0.0, 1.5, 3.0];
    assert_eq!(ready.apply(&file).unwrap(), expected);
    assert_eq!(ready.apply(&bytes).unwrap(), expected);
    let nhwc = picture(2, 2, Resize::None, Channels::Rgb, ImageLayout::Nhwc);
    let ready = Preprocessor::new(&Preprocess::Image(nhwc), &[2, 2, 3]).unwrap();
    assert_eq!(ready.apply(&file).unwrap(), (0..12).map(|v| v as f32).collect::<Vec<_>>());
    let gray = picture(2, 2, Resize::None, Channels::Gray, ImageLayout::Nchw);
    let ready = Preprocessor::new(&Preprocess::Image(gray), &[1, 2, 2]).unwrap();
    let digits = row(RawRow::Array { shape: vec![2, 2], values: Values::U8(vec![0, 7, 200, 255]) });
    assert_eq!(ready.apply(&digits).unwrap(), [0.0, 7.0, 200.0, 255.0]);
    let large = row(RawRow::Image(Picture { width: 3, height: 2, rgb: vec![0; 18] }));
    assert!(ready.apply(&large).unwrap_err().to_string().contains("no resizing is stated"));
    assert!(matches!(Preprocessor::new(&Preprocess::Image(gray_of(3)), &[1, 2, 2]), Err(Error::Shape { .. })));
}

#[test]
fn luma_is_that_of_pillow() {
    // np.asarray(Image.fromarray(rgb).convert("L")), Pillow.
    assert_eq!([luma(10, 200, 30), luma(255, 1, 77), luma(3, 250, 99)], [124, 86, 159]);
}

fn gray_of(side: u32) -> ImagePrep {
    picture(side, side, Resize::Stretch, Channels::Gray, ImageLayout::Nchw)
}

#[test]
fn sound_is_cut_filled_and_refused_at_another_rate() {
    let raw = Preprocess::Audio(AudioPrep {
        sample_rate: 8000,
        window_samples: 4,
        start: Start::Sample(0),
        peak: false,
        gain: 1.0,
        frontend: Frontend::Raw,
        scale: 2.0,
        offset: 1.0,
        layout: AudioLayout::TimeMajor,
    });
    let ready = Preprocessor::new(&raw, &[4]).unwrap();
    let clip = |rate, samples: &[f32]| row(RawRow::Audio(Clip { sample_rate: rate, samples: samples.to_vec() }));
    assert_eq!(ready.apply(&clip(8000, &[0.5, -0.5])).unwrap(), [2.0, 0.0, 1.0, 1.0]);
    assert_eq!(ready.apply(&clip(8000, &[0.0, 0.1, 0.2, 0.25, 9.0])).unwrap()[3], 1.5);
    let refused = ready.apply(&clip(16_000, &[0.5])).unwrap_err().to_string();
    assert!(refused.contains("16000 samples a second") && refused.contains("-r 8000"), "{refused}");
    assert!(matches!(Preprocessor::new(&keywords(), &[1, 49, 12]), Err(Error::Shape { .. })));
}

#[test]
fn the_clip_is_cut_out_where_the_record_says() {
    let sound: Vec<f32> = (1..=5).map(|v| v as f32).collect();
    let cut_of = |start, len| cut(sound.clone(), start, len);
    assert_eq!(cut_of(Start::Sample(0), 3), [1.0, 2.0, 3.0]);
    assert_eq!(cut_of(Start::Sample(3), 3), [4.0, 5.0, 0.0]);
    assert_eq!(cut_of(Start::Sample(9), 2), [0.0, 0.0]);
    assert_eq!(cut_of(Start::Middle, 3), [2.0, 3.0, 4.0]);
    assert_eq!(cut_of(Start::Middle, 4), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(cut_of(Start::Middle, 8), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 0.0]);
}

/// Largest difference between what `record` makes of the 40 clips and the features stored beside them.
fn worst_on_the_clips(record: &Preprocess, shape: &[usize], features: &str) -> Option<f32> {
    let data = shared()?.join("data/fsdd_digits");
    let ready = Preprocessor::new(record, shape).unwrap();
    let options = Options { labels: Some("../clips16k.csv".into()), ..Options::default() };
    let mut clips = Source::open(data.join("clips16k"), &options).unwrap();
    let mut expected = npy::ArrayFile::open(data.join(features)).unwrap();
    assert_eq!((clips.len(), expected.rows()), (40, 40));
    let mut worst = 0.0_f32;
    for at in 0..clips.len() {
        let got = ready.apply(&clips.row(at).unwrap()).unwrap();
        let want = expected.row(at).unwrap().to_f32();
        assert_eq!(got.len(), want.len());
        worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
    }
    println!("{features}: largest error on 40 clips {worst:e}");
    Some(worst)
}

#[test]
fn the_keyword_front_end_equals_tensorflows() {
    let Some(worst) = worst_on_the_clips(&keywords(), &[1, 49, 10], "clips16k_mfcc.npy") else { return };
    assert!(worst < 1e-3, "{worst}");
}

/// The model's own front end is an ONNX graph in f32; ours computes in f64. One step of an int8 input is about 0.03.
#[test]
fn the_log_mel_front_end_equals_the_speech_embeddings() {
    let Some(worst) = worst_on_the_clips(&speech_embedding(), &[76, 32, 1], "clips16k_oww_mel.npy") else { return };
    assert!(worst < 1e-3, "{worst}");
}

#[test]
fn the_vocabulary_is_taken_out_of_the_text_form() {
    let take = |prep: &str| take_vocabulary(prep).unwrap();
    let path = |path: &str| Some(PathBuf::from(path));
    assert_eq!(take("text:vocab=a/vocab.txt,len=8"), ("text:len=8".into(), path("a/vocab.txt")));
    assert_eq!(take(" text: len=8 , vocab = b c.txt "), ("text: len=8 ".into(), path("b c.txt")));
    // Only what stands before the path is taken off.
    assert_eq!(take("text:len=8,vocab=vocab=x=y"), ("text:len=8".into(), path("vocab=x=y")));
    assert_eq!(take("text:len=8,lower=no"), ("text:len=8,lower=no".into(), None));
    assert_eq!(take("image:size=8x8"), ("image:size=8x8".into(), None));
    let error = |prep: &str| take_vocabulary(prep).unwrap_err().to_string();
    for none in ["text:vocab=,len=8", "text:len=8,vocab = ", "text:vocab,len=8"] {
        assert!(error(none).contains("vocab= names no file"), "{none}");
    }
    assert!(error("text:vocab=a,len=8,vocab=b").contains("comes twice"));
    for (prep, file) in [("text:len=8,vocab=a.txt", path("a.txt")), ("text:vocab=a.txt , len=8", path("a.txt"))] {
        let (record, taken) = take(prep);
        assert_eq!((Preprocess::parse(&record).unwrap(), taken), (Preprocess::parse("text:len=8").unwrap(), file));
    }
    // A comma ends a value: what follows is a key that there is not.
    assert!(Preprocess::parse(&take("text:vocab=a,b.txt,len=8").0).is_err());
}
