//! Plans with the layers of real models and random weights.

use hone_runtime::kernels::suite::{Builder, Rng, Slide};

/// One layer on an input of its own.
pub fn layer(input: [usize; 3], build: impl FnOnce(&mut Builder)) -> Vec<u8> {
    let mut builder = Builder::new(Rng::new(7), input);
    build(&mut builder);
    bytes(builder)
}

fn bytes(builder: Builder) -> Vec<u8> {
    let mut parts = builder.finish();
    // As real layers have it.
    parts.ops.iter_mut().for_each(|op| op.shifts.1 = 0);
    parts.to_bytes().unwrap()
}

/// A whole model by name, or `product:M,K,N`: M pixels of K channels to N.
pub fn model(name: &str) -> Option<Vec<u8>> {
    if let Some(sizes) = name.strip_prefix("product:") {
        let sizes: Vec<usize> = sizes.split(',').map(|size| size.parse().unwrap()).collect();
        let [m, k, n] = sizes[..] else { return None };
        return Some(product(m, k, n));
    }
    let build = match name {
        "glyphs" => glyphs,
        "kws" => keywords,
        "ic" => images,
        "vww" => persons,
        "ad" => anomalies,
        "mobilenet_v2" => mobilenet_v2,
        _ => return None,
    };
    let input = match name {
        "glyphs" => [8, 8, 1],
        "kws" => [49, 10, 1],
        "ic" => [32, 32, 3],
        "vww" => [96, 96, 3],
        "ad" => [1, 1, 640],
        _ => [224, 224, 3],
    };
    Some(layer(input, build))
}

/// A matrix product of `m` rows as a pointwise convolution, or a dense layer where there is one row.
pub fn product(m: usize, k: usize, n: usize) -> Vec<u8> {
    layer([1, m, k], |b| {
        if m == 1 {
            b.dense(0, n);
        } else {
            conv(b, 0, n, [1, 1], 1);
        }
    })
}

fn same(b: &Builder, tensor: usize, kernel: [usize; 2], stride: usize) -> Slide {
    let [h, w, _] = b.shape(tensor);
    Slide::same(kernel, [stride; 2], [h, w])
}

fn conv(b: &mut Builder, x: usize, outputs: usize, kernel: [usize; 2], stride: usize) -> usize {
    let slide = same(b, x, kernel, stride);
    b.conv(x, outputs, slide, 1, false)
}

fn depthwise(b: &mut Builder, x: usize, stride: usize) -> usize {
    let slide = same(b, x, [3, 3], stride);
    b.depthwise(x, slide)
}

fn global_mean(b: &mut Builder, x: usize) -> usize {
    let [h, w, _] = b.shape(x);
    b.average_pool(x, Slide::valid([h, w]))
}

/// The built-in model.
fn glyphs(b: &mut Builder) {
    let mut x = conv(b, 0, 32, [3, 3], 1);
    for (outputs, stride) in [(48, 1), (64, 1), (96, 2), (96, 1), (96, 1)] {
        x = depthwise(b, x, stride);
        x = conv(b, x, outputs, [1, 1], 1);
    }
    x = global_mean(b, x);
    b.dense(x, 47);
}

/// DS-CNN.
fn keywords(b: &mut Builder) {
    let mut x = conv(b, 0, 64, [10, 4], 2);
    for _ in 0..4 {
        x = depthwise(b, x, 1);
        x = conv(b, x, 64, [1, 1], 1);
    }
    x = global_mean(b, x);
    b.dense(x, 12);
}

/// ResNet-8.
fn images(b: &mut Builder) {
    let mut x = conv(b, 0, 16, [3, 3], 1);
    for (outputs, stride) in [(16, 1), (32, 2), (64, 2)] {
        let y = conv(b, x, outputs, [3, 3], stride);
        let y = conv(b, y, outputs, [3, 3], 1);
        let short = if stride == 1 { x } else { conv(b, x, outputs, [1, 1], stride) };
        x = b.add(y, short, false);
    }
    x = global_mean(b, x);
    b.dense(x, 10);
}

/// MobileNetV1 0.25, 96 × 96.
fn persons(b: &mut Builder) {
    let mut x = conv(b, 0, 8, [3, 3], 2);
    for (outputs, stride) in [
        (16, 1),
        (32, 2),
        (32, 1),
        (64, 2),
        (64, 1),
        (128, 2),
        (128, 1),
        (128, 1),
        (128, 1),
        (128, 1),
        (128, 1),
        (256, 2),
        (256, 1),
    ] {
        x = depthwise(b, x, stride);
        x = conv(b, x, outputs, [1, 1], 1);
    }
    x = global_mean(b, x);
    b.dense(x, 2);
}

/// The autoencoder.
fn anomalies(b: &mut Builder) {
    let mut x = 0;
    for outputs in [128, 128, 128, 128, 8, 128, 128, 128, 128, 640] {
        x = b.dense(x, outputs);
    }
}

/// MobileNetV2 1.0, 224 × 224.
fn mobilenet_v2(b: &mut Builder) {
    let mut x = conv(b, 0, 32, [3, 3], 2);
    for (expand, outputs, repeats, stride) in
        [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    {
        for index in 0..repeats {
            let [.., inputs] = b.shape(x);
            let stride = if index == 0 { stride } else { 1 };
            let wide = if expand == 1 { x } else { conv(b, x, inputs * expand, [1, 1], 1) };
            let y = depthwise(b, wide, stride);
            let y = conv(b, y, outputs, [1, 1], 1);
            x = if stride == 1 && inputs == outputs { b.add(y, x, false) } else { y };
        }
    }
    x = conv(b, x, 1280, [1, 1], 1);
    x = global_mean(b, x);
    b.dense(x, 1000);
}
