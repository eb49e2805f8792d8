use super::*;

/// Two tones, the higher one in the second half.
fn tones() -> Vec<f32> {
    (0..1600)
        .map(|n| {
            let at = |hertz: f64| (TAU * hertz * f64::from(n) / 16_000.0).sin();
            (0.5 * at(440.0) + if n < 800 { 0.0 } else { 0.25 * at(2900.0) }) as f32
        })
        .collect()
}

fn mel() -> Mel {
    Mel { window: 400, ..Mel::tensorflow(512, 160, 512, 8, 50.0, 7000.0) }
}

#[track_caller]
fn first_and_last_frame_are(mel: Mel, expected: [[f32; 8]; 2]) {
    let got = Features::new(Frontend::LogMel(mel), 16_000).unwrap().compute(&tones());
    assert_eq!(got.len(), 7 * 8, "whole frames alone");
    for (got, want) in got[..8].iter().chain(&got[6 * 8..]).zip(expected.iter().flatten()) {
        assert!((got - want).abs() < 1e-5 * want.abs().max(1.0), "{got} for {want}");
    }
}

/// librosa 0.11: `stft(x, n_fft=512, hop_length=160, win_length=400, center=False, dtype=complex128)`, magnitude,
/// `filters.mel(sr=16000, n_fft=512, n_mels=8, fmin=50, fmax=7000, htk=True, norm=None)`, log10(maximum(·, 0.05)).
#[test]
fn htk_bands_of_the_magnitude_are_librosas() {
    let mel = Mel { bands: Bands::Htk, log: Log::Base10, floor: Floor::Max(0.05), ..mel() };
    let quiet = -1.30103;
    first_and_last_frame_are(
        mel,
        [
            [1.743015, 1.894804, -0.794952, quiet, quiet, quiet, quiet, quiet],
            [1.743, 1.894806, -0.793342, quiet, -1.024257, 1.799466, 0.572837, quiet],
        ],
    );
}

/// librosa 0.11: as above with the power, `htk=False, norm="slaney"`, `power_to_db(·, amin=1e-10, top_db=60)`.
#[test]
fn slaneys_bands_of_the_power_in_decibels_are_librosas() {
    let mel = Mel {
        spectrum: Spectrum::Power,
        bands: Bands::Slaney,
        area_norm: true,
        log: Log::Decibel,
        floor: Floor::Max(1e-10),
        range: 60.0,
        ..mel()
    };
    let least = -49.348152;
    first_and_last_frame_are(
        mel,
        [
            [10.649774, 5.579362, least, least, least, least, least, least],
            [10.649774, 5.579362, least, least, least, 0.092323, -5.938976, least],
        ],
    );
}

#[test]
fn the_mel_scales_and_their_inverses_agree() {
    for hertz in [0.0, 60.0, 999.0, 1000.0, 3800.0, 8000.0] {
        assert!((from_htk(to_htk(hertz)) - hertz).abs() < 1e-6);
        assert!((from_slaney(to_slaney(hertz)) - hertz).abs() < 1e-6);
    }
}
