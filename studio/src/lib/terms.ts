/** The terms that the page uses, explained by the dialog that `?` opens. */

export interface Term {
  name: string;
  text: string;
}

export interface Group {
  title: string;
  terms: readonly Term[];
}

export const TERMS: readonly Group[] = [
  {
    title: "Latent space",
    terms: [
      { name: "latent point z", text: "A few numbers from which the decoder generates an image. Each number is an axis of the latent space." },
      { name: "encoder, decoder", text: "The two neural networks: the encoder places an image in the latent space, the decoder turns a point into an image." },
      { name: "label", text: "The class of an image, such as the digit. A conditional model (CVAE) is given the label, so z mainly holds the style." },
      { name: "prior, N(0, I)", text: "The standard normal distribution: every number of z is independent, with mean 0 and standard deviation 1. Random points are drawn from it." },
      { name: "posterior", text: "The distribution of the points from which an image may have been generated: a mean μ and a standard deviation σ on each axis." },
      { name: "σ", text: "Standard deviation. Distances in the latent space are in σ of the prior, within ±2 σ of which are about 95 % of the random points on an axis; encoded images can be spread otherwise. An autoencoder has no prior; there it is the standard deviation of its codes." },
      { name: "drifting", text: "Until you first use the page, the point moves on a small circle, to show that nearby points decode to similar images." },
      { name: "temperature", text: "Factor of the standard deviation of random points: below 1 they are more typical, above 1 more unusual." },
      { name: "slant, stroke width (r)", text: "What an axis carries, measured: r is the correlation of the axis with the slant or the stroke width of held-out drawings of the same label. Above 0, the slider increases it to the right, below 0 to the left; axes below 0.3 are not marked." },
    ],
  },
  {
    title: "Map",
    terms: [
      { name: "dots", text: "Images that were not used for training, at the mean of their posterior. The colour is their label." },
      { name: "rings", text: "1, 2 and 3 σ of the prior." },
      { name: "tiles", text: "Images decoded at regular points of the map, with the numbers of z that the map does not show held at their current values." },
      { name: "principal plane", text: "The plane through the latent space in which the encoded images vary most; its two directions are mixtures of axes." },
      { name: "pinned", text: "When you select a place on the map, the image of the dot there stays beside the point until the point is moved." },
    ],
  },
  {
    title: "Figures",
    terms: [
      { name: "nats", text: "Unit of information, with the natural logarithm: 1 nat is about 1.44 bits." },
      { name: "rate", text: "Information that z holds about an image, on one axis or in total: the KL divergence of the posterior from the prior, in nats per image. An axis with a rate near 0 is not used." },
      { name: "KL divergence", text: "How far one distribution is from another; 0 if they are the same." },
      { name: "distortion", text: "Error of the reconstruction: the negative logarithm of the image's probability given z, in nats." },
      { name: "−ELBO", text: "Rate plus distortion, in nats per image; training minimises it. An upper bound of the surprise of an image; lower is better." },
      { name: "surprise", text: "How unlikely the model finds your image: its −ELBO, compared with those of test images." },
      { name: "mean, sample", text: "The decoder outputs a distribution for each pixel. “Mean” shows its mean, “Sample” a value drawn from it." },
    ],
  },
];
